"""Lightning callbacks: checkpoints, moving average, progress, throughput, seeding, provenance."""

from stkd_lightning.callbacks.checkpoints import Checkpoints
from stkd_lightning.callbacks.ema import EMA
from stkd_lightning.callbacks.progress import ProgressBar
from stkd_lightning.callbacks.provenance import Provenance
from stkd_lightning.callbacks.seeding import Seeding
from stkd_lightning.callbacks.throughput import Throughput

__all__ = ["EMA", "Checkpoints", "ProgressBar", "Provenance", "Seeding", "Throughput"]
