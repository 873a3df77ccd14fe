"""What watches a run: throughput, progress, provenance."""

from stkd_lightning.callbacks.progress import ProgressBar
from stkd_lightning.callbacks.provenance import Provenance
from stkd_lightning.callbacks.throughput import Throughput

__all__ = ["ProgressBar", "Provenance", "Throughput"]
