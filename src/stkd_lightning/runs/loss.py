"""Whether a run's loss fits its other settings, and what it reads."""

from omegaconf import DictConfig
from torch import nn

from stkd_lightning.errors import InputError
from stkd_lightning.losses.base import Features
from stkd_lightning.mixup import Mixup, check_mixable
from stkd_lightning.replay import check_replay
from stkd_lightning.reporting.console import say


def check_loss(loss: nn.Module, mixup: Mixup, config: DictConfig) -> None:
    """Refuse a loss with settings that it is not defined for, before there are data.

    Raises:
        InputError: mixed samples, replay, or a batch too small for it.
    """
    check_mixable(loss, mixup)
    if config.teacher.replay:
        check_replay(loss)
    needed, size = getattr(loss, "smallest_batch", 1), config.dataset.batch_size
    if size < needed:
        raise InputError(f"dataset.batch_size={size}: loss={config.method} needs {needed} samples at once")


def say_features(loss: nn.Module) -> None:
    """Tell a person which layers are compared."""
    features = getattr(loss, "features", Features())
    if features != Features():
        say(f"loss: reads {', '.join(features.student)} of the student, {', '.join(features.teacher)} of the teacher")
