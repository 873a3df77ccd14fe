"""Similarity-based knowledge distillation in PyTorch Lightning.

Names are imported at their first use, so that the commands start without waiting for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stkd_lightning.distillation.mixup import Mixup
    from stkd_lightning.distillation.module import DistillationModule
    from stkd_lightning.inference.load import load_student
    from stkd_lightning.tasks.types import Batch, MixedTarget, ModelOutput, StepContext

MODULES = {
    "Batch": "stkd_lightning.tasks.types",
    "DistillationModule": "stkd_lightning.distillation.module",
    "MixedTarget": "stkd_lightning.tasks.types",
    "Mixup": "stkd_lightning.distillation.mixup",
    "ModelOutput": "stkd_lightning.tasks.types",
    "StepContext": "stkd_lightning.tasks.types",
    "load_student": "stkd_lightning.inference.load",
}
__all__ = ["Batch", "DistillationModule", "MixedTarget", "Mixup", "ModelOutput", "StepContext", "load_student"]


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(MODULES[name]), name)
