"""Fine-tuning: the training of a student on other data before the run's own, done once and cached."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from torch import nn

from stkd_lightning.commands.training.data_options import data_like, other_data, without_sampler
from stkd_lightning.commands.training.limits import other_trainer
from stkd_lightning.commands.training.pretrain import TRAINED, Recipe, get_or_train
from stkd_lightning.commands.training.resume import EarlierRun
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.models.build import build_network, input_facts
from stkd_lightning.models.feature_hooks import inner_network
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import InputError, unknown
from stkd_lightning.utilities.paths import cache_root

OPTIONS = ("dataset", "max_epochs", "lr")


@dataclass(frozen=True)
class Pretraining:
    """The training of a student before the run's own.

    Attributes:
        recipe: its settings.
        data: prepared data.
        input: normalization of the images that the student learns from: ``mean`` and ``std``.
    """

    recipe: Recipe
    data: ArrayDataModule
    input: Mapping[str, Any]


def plan_pretraining(settings: DictConfig, data: ArrayDataModule) -> Pretraining | None:
    """Return the pretraining of a run, if it has one; what does not fit is refused before anything is trained.

    Args:
        settings: with the counts of the data.
        data: of the run.

    Raises:
        InputError: an unknown option, other data that do not fit, or a student that a method changes.
    """
    node, name = settings.pretraining, "pretraining"
    if node is None:
        return None
    if not isinstance(node, DictConfig):
        raise InputError(f"{name}={node}: must be options and their values, such as {{max_epochs: 60}}")
    for option in map(str, node):
        if option not in OPTIONS:
            raise unknown(f"option of {name}", option, OPTIONS)
    if settings.distilled is not None:
        raise InputError(f"{name}: loss={settings.method} changes the student; set student.checkpoint=FILE instead")
    epochs = validation.whole(f"{name}.max_epochs", node.get("max_epochs", settings.trainer.max_epochs), minimum=1)
    rate = {} if node.get("lr") is None else {"lr": validation.positive(f"{name}.lr", node.lr)}
    dataset = other_data(f"{name}.dataset", without_sampler(settings), node.get("dataset"))
    other = data_like(data, dataset, f"{name}.dataset")
    limits = OmegaConf.create({"max_epochs": epochs, "max_steps": -1, "limit_train_batches": None})
    recipe = Recipe(
        "pretraining",
        settings.student,
        dataset,
        cast(DictConfig, OmegaConf.merge(settings.optimizer, rate)),
        settings.scheduler,
        other_trainer(settings, limits),
        settings.seed,
        settings.compile,
        other.arrays.digest,
    )
    facts = input_facts(build_network(settings.student, other), other)
    return Pretraining(recipe, other, {"mean": facts["mean"], "std": facts["std"]})


def start_student(
    pretraining: Pretraining, settings: DictConfig, student: nn.Module, earlier: EarlierRun | None
) -> str:
    """Copy the weights of a pretraining into a student; train it first if it is not in the cache.

    Args:
        pretraining: of the run.
        settings: of the run.
        student: a new network; it gets the weights.
        earlier: the run to resume, whose checkpoint holds the student; nothing is trained for it.

    Returns:
        The cache key of the pretraining.

    Raises:
        InputError: the earlier run started from another pretraining.
    """
    key = pretraining.recipe.key(pretraining.data)
    if earlier:
        earlier.check_front(key)
        return key
    trained = get_or_train(pretraining.recipe, pretraining.data, cache_root(settings.cache_dir) / TRAINED)
    inner_network(student).load_state_dict(inner_network(trained.network).state_dict())
    return key
