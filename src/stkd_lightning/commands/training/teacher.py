"""Which teacher a run has: loaded, trained before, or trained now."""

from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import nn

from stkd_lightning.commands.training.fit import Fitted
from stkd_lightning.commands.training.precision import best_dtype, device_type
from stkd_lightning.commands.training.pretrain import TRAINED, Recipe, find, get_or_train
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.inference.student_info import name_of
from stkd_lightning.models.build import build_network
from stkd_lightning.models.input_adapter import AdaptedInput
from stkd_lightning.teacher.frozen import FrozenTeacher, check_accuracy, score
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.paths import key_of, remembered


@dataclass(frozen=True)
class Teacher:
    """A teacher and where it came from.

    Attributes:
        network: frozen.
        source: for people.
        checkpoint: its file; ``None`` for a network that came with weights of its own.
        figures: of its own training, if that was here.
    """

    network: FrozenTeacher
    source: str
    checkpoint: str | None
    figures: Fitted | None = None


def frozen(network: nn.Module, trainer: DictConfig) -> FrozenTeacher:
    """Freeze a network in the precision that is best for it, where that is left open; else in the training's."""
    automatic = trainer.precision == "auto"
    return FrozenTeacher(network, dtype=best_dtype(network, device_type(trainer)) if automatic else None)


def load(node: DictConfig, trainer: DictConfig, data: ArrayDataModule, cache: Path) -> Teacher:
    """Load the teacher of a configuration that names its checkpoint.

    Raises:
        InputError: weights that cannot be read, do not fit, or are at chance level.
    """
    own = node.checkpoint == "pretrained"
    if own and not node.network.get("pretrained"):
        raise InputError("teacher.checkpoint=pretrained: needs a network with teacher.network.pretrained=true")
    network = build_network(
        node.network,
        data,
        checkpoint=None if own else node.checkpoint,
        input_size=node.input_size,
        mean=node.mean,
        std=node.std,
    )
    if isinstance(network, AdaptedInput):
        print_rank_zero(f"teacher: images are resized or normalized for it, as it was trained: {network.describe()}")
    teacher = frozen(network, trainer)
    _check(teacher, data, node, str(node.checkpoint), cache, refuse=True)
    return Teacher(teacher, str(node.checkpoint), None if own else str(Path(node.checkpoint).absolute()))


def obtain(node: DictConfig, recipe: Recipe, data: ArrayDataModule, cache: Path, *, needed: bool) -> Teacher | None:
    """Take the teacher of a recipe from the cache; if it is needed and not there, train it.

    Returns:
        The teacher, or ``None`` where it is neither there nor needed.
    """
    trained = cache / TRAINED
    alone = get_or_train(recipe, data, trained) if needed else find(recipe, data, trained)
    if alone is None:
        return None
    teacher = frozen(build_network(node.network, data, checkpoint=str(alone.checkpoint)), recipe.trainer)
    _check(teacher, data, node, f"trained here, {alone.key}", cache, refuse=False)
    return Teacher(teacher, f"trained here, {alone.key}", str(alone.checkpoint.absolute()), alone.fitted)


def _check(
    teacher: FrozenTeacher, data: ArrayDataModule, node: DictConfig, source: str, cache: Path, *, refuse: bool
) -> None:
    """Measure a teacher on validation images; at chance level refuse it, or warn of one trained by these settings."""
    task = data.task
    minimum = task.least_score(data.num_classes) if node.min_accuracy is None else node.min_accuracy
    if not minimum:
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = [data.arrays.digest, data.validation_fraction, data.split_seed, str(teacher.dtype)]
    value = remembered(
        cache / "accuracy" / f"{key_of([teacher.digest, *images])}.json",
        lambda: score(teacher, data.val_dataloader() or data.plain_train_dataloader(), device, task),
    )
    name = f"{name_of(node.network)} ({source})"
    which = "validation" if data.has_validation else "training"
    print_rank_zero(f"teacher: {name}, {task.score.name} {task.score.text(value)} on {which} images")
    try:
        check_accuracy(value, minimum=minimum, source=name, score=task.score)
    except InputError as error:
        if refuse:
            raise
        print_rank_zero(f"[yellow]warning: {error}[/yellow]")
