"""The frozen network that teaches, and its kept outputs."""

from stkd_lightning.models.weights import load_weights
from stkd_lightning.teacher.frozen import FrozenTeacher, check_accuracy, default_min_accuracy

__all__ = ["FrozenTeacher", "check_accuracy", "default_min_accuracy", "load_weights"]
