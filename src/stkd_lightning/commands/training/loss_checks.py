"""Whether a run's loss fits its other settings, and what it reads."""

from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from stkd_lightning.commands.config.compose import with_values
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.distillation.mixup import check_mixable
from stkd_lightning.losses.base import Features, Loss
from stkd_lightning.models.build import build_network, example_of, without_start
from stkd_lightning.models.probe import NetworkInspector
from stkd_lightning.teacher.replay import check_replay
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.random import seeded


def check_loss(config: DictConfig) -> None:
    """Refuse a loss with settings that it is not defined for, before there are data.

    Raises:
        InputError: mixed samples, replay, or a batch too small for it.
    """
    loss = instantiate(with_values(config, {"num_classes": 2, "num_samples": 2}).loss)
    check_mixable(loss, instantiate(config.mixup))
    if config.teacher.replay:
        check_replay(loss)
    needed, size = getattr(loss, "smallest_batch", 1), config.dataset.batch_size
    if size < needed:
        raise InputError(f"dataset.batch_size={size}: loss={config.method} compares samples; the nearest is {needed}")


def check_classes(loss: nn.Module, data: ArrayDataModule, method: str) -> None:
    """Refuse a loss that has nothing to compare among the few classes of the data.

    Raises:
        InputError: names the classes that it needs.
    """
    needed, classes = getattr(loss, "smallest_classes", 1), data.task.row_classes(data.num_classes)
    if classes < needed:
        raise InputError(f"loss={method}: needs {needed} classes, {data.name} has {classes}; the nearest is loss=kd")


def try_features(loss: nn.Module, student: nn.Module, teacher: DictConfig, data: ArrayDataModule, *, seed: int) -> None:
    """Fit a loss that reads features to a student and to a network like its teacher.

    Args:
        loss: of the run.
        student: of the run.
        teacher: node with ``_target_``.
        data: whose images they see.
        seed: of the loss's own parameters.

    Raises:
        InputError: a layer that is not there, or whose output the loss cannot read.
    """
    features = getattr(loss, "features", Features())
    if not (getattr(loss, "reads_features", False) or features != Features()):
        return
    own, its = (NetworkInspector(n, example_of(data)) for n in (student, build_network(without_start(teacher), data)))
    seeded(seed)
    if isinstance(loss, Loss):
        loss.prepare(own, its)
    else:
        own.shapes(features.student)
        its.shapes(features.teacher)


def say_features(loss: nn.Module) -> None:
    """Tell a person which layers are compared."""
    features = getattr(loss, "features", Features())
    if features != Features():
        print_rank_zero(
            f"loss: reads {', '.join(features.student)} of the student, {', '.join(features.teacher)} of the teacher"
        )
