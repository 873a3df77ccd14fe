"""Find a run's teacher: load a checkpoint, take a network from the cache, or train one."""

from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import nn

from stkd_lightning.commands.config.teachers import BUILT
from stkd_lightning.commands.training.chain import check_classes, described
from stkd_lightning.commands.training.devices import rank_device
from stkd_lightning.commands.training.fit import Fitted
from stkd_lightning.commands.training.precision import best_dtype, device_type
from stkd_lightning.commands.training.pretrain import TRAINED, Recipe, find, get_or_train
from stkd_lightning.data.description import DataDescription
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.inference.about import name_of
from stkd_lightning.models.build import build_network, classes_of
from stkd_lightning.models.class_order import declared_classes, is_named_alike
from stkd_lightning.models.feature_hooks import inner_network
from stkd_lightning.models.input_adapter import AdaptedInput
from stkd_lightning.teacher.frozen import FrozenTeacher, check_accuracy, score
from stkd_lightning.utilities.cache import remembered
from stkd_lightning.utilities.console import print_rank_zero, warn
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.paths import key_of

OF_FEATURES = ("sp", "rkd", "pkt", "crd", "fitnet", "at", "nst", "vid", "reviewkd")


@dataclass(frozen=True)
class Teacher:
    """A teacher and its source.

    Attributes:
        network: the frozen network.
        source: description of the source for tables and messages.
        checkpoint: file of the weights; ``None`` for a network built with its weights, and for several teachers.
        fitted: results of the teacher's training; ``None`` for a loaded teacher.
        has_classes: whether its classes are the data's; otherwise its features alone teach, and it is not measured.
    """

    network: FrozenTeacher
    source: str
    checkpoint: str | None
    fitted: Fitted | None = None
    has_classes: bool = True


def freeze(network: nn.Module, trainer: DictConfig) -> FrozenTeacher:
    """Freeze a network in its best dtype if the precision is ``auto``, else in the training's precision."""
    automatic = trainer.precision == "auto"
    return FrozenTeacher(network, dtype=best_dtype(network, device_type(trainer)) if automatic else None)


def load(
    node: DictConfig, trainer: DictConfig, data: ArrayDataModule, cache: Path, *, any_classes: bool = False
) -> Teacher:
    """Load the teacher from the checkpoint in the settings, or take a network that is built with its weights.

    Args:
        node: options of the teacher.
        trainer: node with ``_target_``.
        data: of the run.
        cache: folder of scores.
        any_classes: accept other classes than the data's, since its features alone are read.

    Raises:
        InputError: the weights cannot be read, do not fit the network or the data, or are at chance level.
    """
    if "run" in node:
        check_classes(node, data)
    built = node.checkpoint in BUILT
    if node.checkpoint == "pretrained" and not node.network.get("pretrained"):
        raise InputError(
            "teacher.checkpoint=pretrained: needs a network with teacher.network.pretrained=true; as_built takes any "
            "network with the weights that it is built with"
        )
    network = build_network(
        node.network,
        data,
        checkpoint=None if built else node.checkpoint,
        checkpoint_key=node.checkpoint_key,
        compare_first="run" in node,  # then the network is named by the file
        input_size=node.input_size,
        mean=node.mean,
        std=node.std,
        any_classes=True,
    )
    classes = classes_of(network, data)
    if classes != data.num_classes and not any_classes:
        raise InputError(
            f"teacher: {name_of(node.network)} has {classes} classes, {data.name} has {data.num_classes}; losses that "
            f"read features alone learn from it: {', '.join(f'loss={name}' for name in OF_FEATURES)}"
        )
    if isinstance(network, AdaptedInput):
        print_rank_zero(f"teacher: images are resized or normalized as in the teacher's training: {network.describe()}")
    names = declared_classes(inner_network(network)) if built and classes == data.num_classes else ()
    if names and not is_named_alike(names, data.class_names):
        own, needed = next(p for p in zip(names, data.class_names, strict=True) if not is_named_alike(p[:1], p[1:]))
        print_rank_zero(f"teacher: its classes are taken in their order; they are named otherwise: {own}, not {needed}")
    teacher = freeze(network, trainer)
    source = described(node) if "run" in node else str(node.checkpoint)
    checkpoint = None if built else str(Path(node.checkpoint).absolute())
    if classes != data.num_classes:
        print_rank_zero(
            f"teacher: {name_of(node.network)} ({source}) has {classes} classes, {data.name} has {data.num_classes}; "
            "its accuracy, agreement and divergence are left out, and its features alone teach"
        )
        return Teacher(teacher, source, checkpoint, has_classes=False)
    check_score(teacher, data, node, source, cache, rank_device(trainer), refuse=True)
    return Teacher(teacher, source, checkpoint)


def obtain(node: DictConfig, recipe: Recipe, data: ArrayDataModule, cache: Path, *, needed: bool) -> Teacher | None:
    """Take the teacher of a recipe from the cache; train it if it is needed and not there.

    Returns:
        The teacher; ``None`` if it is neither needed nor in the cache.
    """
    trained = cache / TRAINED
    pretrained = get_or_train(recipe, data, trained) if needed else find(recipe, data, trained)
    if pretrained is None:
        return None
    teacher = freeze(pretrained.network, recipe.trainer)
    source, device = f"trained here, {pretrained.key}", rank_device(recipe.trainer)
    check_score(teacher, data, node, source, cache, device, refuse=False)
    return Teacher(teacher, source, str(pretrained.checkpoint.absolute()), pretrained.fitted)


def check_score(
    teacher: FrozenTeacher,
    data: ArrayDataModule,
    node: DictConfig,
    source: str,
    cache: Path,
    device: torch.device,
    *,
    refuse: bool,
) -> None:
    """Measure a teacher on validation data; at chance level refuse a loaded teacher, or warn if it was trained here."""
    task = data.task
    minimum = task.least_score(data.num_classes) if node.min_accuracy is None else node.min_accuracy
    if not minimum:
        return
    key = [data.arrays.digest, data.validation_fraction, data.split_seed, str(teacher.dtype)]
    key += data.evaluation_options()
    if not data.has_validation and data.train_fraction < 1:  # then the training images are evaluated
        key += [data.train_fraction, data.train_seed]
    value = remembered(
        cache / "accuracy" / f"{key_of([teacher.digest, *key])}.json",
        lambda: score(teacher, data.val_dataloader() or data.plain_train_dataloader(), device, task),
    )
    name = f"{name_of(node.network)} ({source})"
    noun = DataDescription.of(data).noun
    split = "validation" if data.has_validation else "training"
    print_rank_zero(f"teacher: {name}, {task.score.label} {task.score.text(value)} on {split} {noun}")
    try:
        check_accuracy(value, minimum=minimum, source=name, score=task.score)
    except InputError as error:
        if refuse:
            raise
        warn(str(error))
