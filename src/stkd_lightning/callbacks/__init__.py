"""Lightning callbacks: checkpoints, moving average, progress, throughput, seeding, provenance, classes."""

from stkd_lightning.callbacks.checkpoints import Checkpoints
from stkd_lightning.callbacks.classified import FirstClasses
from stkd_lightning.callbacks.ema import EMA
from stkd_lightning.callbacks.log_interval import LogEachEpoch
from stkd_lightning.callbacks.progress import ProgressBar
from stkd_lightning.callbacks.provenance import Provenance
from stkd_lightning.callbacks.seeding import Seeding
from stkd_lightning.callbacks.throughput import Throughput

__all__ = ["EMA", "Checkpoints", "FirstClasses", "LogEachEpoch", "ProgressBar", "Provenance", "Seeding", "Throughput"]
