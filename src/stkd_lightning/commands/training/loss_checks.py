"""Check a run's loss against its other settings and its networks."""

from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from stkd_lightning.commands.config.compose import with_values
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.distillation.label_checks import check_unlabelled
from stkd_lightning.distillation.mixing import check_inputs, check_mixable, check_order
from stkd_lightning.losses.base import Features, Loss
from stkd_lightning.losses.weighted_sum import WeightedSum
from stkd_lightning.models.build import build_network, example_of
from stkd_lightning.models.probe import NetworkInspector
from stkd_lightning.models.start import without_start
from stkd_lightning.tasks.base import Task
from stkd_lightning.teacher.replay import check_replay
from stkd_lightning.utilities.batch_rows import batch_rows
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError, UndefinedError
from stkd_lightning.utilities.random import seeded


def example_loss(config: DictConfig) -> nn.Module:
    """Build the loss of a configuration before the number of classes and samples is known."""
    loss: nn.Module = instantiate(with_values(config, {"num_classes": 2, "num_samples": 2}).loss)
    return loss


def check_loss(config: DictConfig) -> None:
    """Refuse settings for which a loss is not defined, before the data are read.

    Raises:
        InputError: the loss is not defined on mixed samples, for replay, for several teachers, or for a batch of this
            size.
    """
    loss = example_loss(config)
    mixup, taught = instantiate(config.mixup), getattr(loss, "needs_teacher", True)
    check_mixable(loss, mixup, batch_rows(config.dataset.batch_size, config.dataset.get("unlabeled_ratio")))
    if config.dataset.get("unlabeled_ratio"):
        check_unlabelled(loss, mixup)
    check_order(mixup, look_ahead=config.teacher.look_ahead, replay=config.teacher.replay, teacher=taught)
    if "members" in config.teacher and (_reads_layers(loss) or (config.distilled and "teacher" in config.distilled)):
        raise UndefinedError(
            f"loss={config.method}: reads layers of the teacher, and teacher=ensemble has none; try loss=kd"
        )
    if config.teacher.replay:
        check_replay(loss)
    smallest, size = getattr(loss, "smallest_batch", 1), config.dataset.batch_size
    if size < smallest:
        raise InputError(f"dataset.batch_size={size}: loss={config.method} compares samples; the nearest is {smallest}")


def _reads_layers(loss: nn.Module) -> bool:
    """Return whether a loss, or a part of a sum, reads layers of the teacher."""
    parts = [part for part in loss.modules() if not isinstance(part, WeightedSum)]
    named = [getattr(part, "features", None) for part in parts]
    return any(
        (isinstance(part, Loss) and part.reads_features and part.needs_teacher)
        or (isinstance(features, Features) and bool(features.teacher))
        for part, features in zip(parts, named, strict=True)
    )


def check_classes(loss: nn.Module, data: ArrayDataModule, method: str) -> None:
    """Refuse a loss that needs more classes than the data have.

    Raises:
        InputError: the data have too few classes; names the smallest number.
    """
    smallest, classes = getattr(loss, "smallest_classes", 1), data.task.row_classes(data.num_classes)
    if classes < smallest:
        nearest = "loss=kd loss.standardize=false" if getattr(loss, "standardize", False) else "loss=kd"
        raise UndefinedError(
            f"loss={method}: needs {smallest} classes, but {data.name} has {classes}; {nearest} needs fewer"
        )


def check_mixing(config: DictConfig, data: ArrayDataModule) -> None:
    """Refuse a way to mix that is not defined for the data; see ``check_inputs``."""
    check_inputs(instantiate(config.mixup), dense=data.task.dense, clips=len(data.input_shape) == 1)


def check_labels(loss: nn.Module, task: Task) -> None:
    """Refuse a loss that needs other labels than a task has.

    Raises:
        InputError: names the loss, or the part of a sum.
    """
    for part in loss.modules():
        if isinstance(part, Loss) and part.exclusive and not task.exclusive:
            raise UndefinedError(f"{type(part).__name__}: needs one class for each sample, but {task.name} has several")
        if isinstance(part, Loss) and part.dense not in (None, task.dense):
            needed, given = ("position", "sample") if part.dense else ("sample", "position")
            raise UndefinedError(
                f"{type(part).__name__}: needs a label for each {needed}, but {task.name} has one for each {given}"
            )


def try_features(loss: nn.Module, student: nn.Module, teacher: DictConfig, data: ArrayDataModule, *, seed: int) -> None:
    """Fit a loss that reads features to a student and to an untrained network like its teacher.

    Args:
        loss: loss of the run.
        student: student of the run.
        teacher: the teacher's node; without ``_target_``, as that of an ensemble, nothing is tried.
        data: data of the run, which give an example batch.
        seed: seed of the loss's parameters.

    Raises:
        InputError: a layer does not exist, or the loss cannot read its output.
    """
    features = getattr(loss, "features", Features())
    if not (getattr(loss, "reads_features", False) or features != Features()) or "_target_" not in teacher:
        return
    network = build_network(without_start(teacher), data)
    inspectors = [NetworkInspector(n, example_of(data)) for n in (student, network)]
    seeded(seed)
    if isinstance(loss, Loss):
        loss.prepare(*inspectors)
    else:
        inspectors[0].shapes(features.student)
        inspectors[1].shapes(features.teacher)


def print_features(loss: nn.Module) -> None:
    """Print the layers that a loss compares, and the notices of its parts."""
    features = getattr(loss, "features", Features())
    if features != Features():
        print_rank_zero(
            f"loss: reads {', '.join(features.student)} of the student, {', '.join(features.teacher)} of the teacher"
        )
    for part in loss.modules():
        if notice := getattr(part, "notice", ""):
            print_rank_zero(f"loss: {notice}")
