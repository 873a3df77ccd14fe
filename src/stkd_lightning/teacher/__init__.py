"""The frozen teacher, and its cached and stored outputs."""

from stkd_lightning.models.weights import load_weights
from stkd_lightning.teacher.ensemble import Ensemble
from stkd_lightning.teacher.frozen import FrozenTeacher, check_accuracy, default_min_accuracy

__all__ = ["Ensemble", "FrozenTeacher", "check_accuracy", "default_min_accuracy", "load_weights"]
