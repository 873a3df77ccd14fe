"""Similarity-based knowledge distillation in PyTorch Lightning.

Names are imported at their first use, so that the commands start without waiting for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stkd_lightning.distillation.cutmix import CutMix, MixupOrCutMix
    from stkd_lightning.distillation.mixup import Mixup
    from stkd_lightning.distillation.module import DistillationModule
    from stkd_lightning.distillation.strong_view import StrongView
    from stkd_lightning.distillation.uncertain_mixup import UncertainMixup
    from stkd_lightning.inference.load import load_student
    from stkd_lightning.tasks.types import Batch, MixedTarget, ModelOutput, StepContext
    from stkd_lightning.utilities.errors import InputError, RunError

MODULES = {
    "Batch": "stkd_lightning.tasks.types",
    "CutMix": "stkd_lightning.distillation.cutmix",
    "DistillationModule": "stkd_lightning.distillation.module",
    "InputError": "stkd_lightning.utilities.errors",
    "MixedTarget": "stkd_lightning.tasks.types",
    "Mixup": "stkd_lightning.distillation.mixup",
    "MixupOrCutMix": "stkd_lightning.distillation.cutmix",
    "ModelOutput": "stkd_lightning.tasks.types",
    "RunError": "stkd_lightning.utilities.errors",
    "StepContext": "stkd_lightning.tasks.types",
    "StrongView": "stkd_lightning.distillation.strong_view",
    "UncertainMixup": "stkd_lightning.distillation.uncertain_mixup",
    "load_student": "stkd_lightning.inference.load",
}
__all__ = [
    "Batch",
    "CutMix",
    "DistillationModule",
    "InputError",
    "MixedTarget",
    "Mixup",
    "MixupOrCutMix",
    "ModelOutput",
    "RunError",
    "StepContext",
    "StrongView",
    "UncertainMixup",
    "load_student",
]


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(MODULES[name]), name)
