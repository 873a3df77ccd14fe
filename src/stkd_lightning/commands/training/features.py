"""Feature distillation, the first stage of Spirit Distillation: a student's front, trained once and cached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from torch import nn

from stkd_lightning.commands.training.data_options import data_like, other_data, without_sampler
from stkd_lightning.commands.training.limits import other_trainer
from stkd_lightning.commands.training.pretrain import TRAINED, Recipe, find, get_or_train, plain
from stkd_lightning.commands.training.resume import EarlierRun
from stkd_lightning.commands.training.teacher import Teacher, freeze
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.inference.about import name_of
from stkd_lightning.losses.spirit import RepresentationLoss
from stkd_lightning.models import cut
from stkd_lightning.models.build import build_network, example_of, input_facts
from stkd_lightning.models.cost import flops, parameters
from stkd_lightning.models.feature_hooks import inner_network
from stkd_lightning.models.input_adapter import AdaptedInput, InputSpec, for_data
from stkd_lightning.models.spirit import SpiritStudent, cut_of, spirit_student
from stkd_lightning.models.start import without_start
from stkd_lightning.reporting.summary import NetworkSummary
from stkd_lightning.tasks.representation import Representation
from stkd_lightning.teacher.frozen import FrozenTeacher
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.image_size import Size
from stkd_lightning.utilities.paths import cache_root, key_of

FRONT = "stkd_lightning.models.spirit_front"


@dataclass(frozen=True)
class RepresentedImages:
    """The images of data, whose labels are not read; see ``models.build.Images``."""

    num_classes: int
    image_size: Size
    task: Representation
    mean: Sequence[float]
    std: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class FrontRecipe(Recipe):
    """All settings that determine a front.

    Attributes:
        represents: the teacher's front.
        shape: of its output for one image, ``(C, H, W)``.
        teacher: digest of the whole teacher.
    """

    represents: FrozenTeacher
    shape: tuple[int, ...]
    teacher: str

    def key(self, data: ArrayDataModule) -> str:
        """Return the cache key, to which the teacher belongs."""
        return key_of([super().key(data), self.teacher])

    @property
    def named(self) -> DictConfig:
        """The node of the student."""
        return self.network.student

    def task(self, data: ArrayDataModule) -> Representation:
        """Return the teacher's representation as a task."""
        return Representation(self.shape)

    def build(self, data: ArrayDataModule, **options: Any) -> nn.Module:
        """Build the front with its adapter."""
        images = RepresentedImages(data.num_classes, data.image_size, self.task(data), data.mean, data.std)
        return build_network(self.network, images, **options)

    def objective(self) -> tuple[nn.Module, FrozenTeacher]:
        """Return the difference from the teacher's representation."""
        return RepresentationLoss(), self.represents


@dataclass(frozen=True)
class FeatureStage:
    """The first stage of a run.

    Attributes:
        settings: of the run.
        dataset: node of the stage's data.
        data: the stage's data.
        input: normalization of the images that the front learns from: ``mean`` and ``std``.
    """

    settings: DictConfig
    dataset: DictConfig
    data: ArrayDataModule
    input: Mapping[str, Any]


@dataclass(frozen=True)
class Front:
    """A trained front.

    Attributes:
        key: cache key of its training.
        summary: its size, and its error on the test images where the cache has it.
    """

    key: str
    summary: NetworkSummary


def plan_features(settings: DictConfig, data: ArrayDataModule) -> FeatureStage | None:
    """Return the first stage of a run, if it has one; what does not fit is refused before anything is trained.

    Args:
        settings: with the counts of the data.
        data: of the run.

    Raises:
        InputError: the student does not end in a teacher's rest, the stage's data or a network's part do not fit.
    """
    node, name = settings.feature_distillation, "feature_distillation"
    if node is None:
        return None
    target = settings.distilled and settings.distilled.get("_target_")
    if not target or get_object(target) is not spirit_student:
        raise InputError(f"{name}: trains the front of a student that is cut; set loss=spirit")
    dataset = other_data(f"{name}.dataset", without_sampler(settings), node.dataset)
    other = data_like(data, dataset, f"{name}.dataset")
    try:
        teacher = build_network(without_start(settings.teacher.network), data)
    except InputError as error:
        raise InputError(f"teacher: {error}") from error
    front = front_recipe(settings, dataset, teacher, "", (data, other)).build(other)
    facts = input_facts(front, other)
    return FeatureStage(settings, dataset, other, {"mean": facts["mean"], "std": facts["std"]})


def find_front(
    stage: FeatureStage,
    teacher: Teacher,
    data: ArrayDataModule,
    student: nn.Module,
    earlier: EarlierRun | None,
) -> Front:
    """Find the front in the cache, or train it, and have the student start from it and from the teacher.

    Args:
        stage: of the run.
        teacher: the trained teacher.
        data: of the run.
        student: a new ``SpiritStudent``; it gets the weights.
        earlier: the run to resume, whose checkpoint holds the student; the front is not trained for it.

    Raises:
        InputError: the earlier run started from another front.
    """
    network, cache = teacher.network.network, cache_root(stage.settings.cache_dir) / TRAINED
    recipe = front_recipe(stage.settings, stage.dataset, network, teacher.network.digest, (data, stage.data))
    if earlier:
        earlier.check_front(recipe.key(stage.data))
        front = find(recipe, stage.data, cache)
    else:
        front = get_or_train(recipe, stage.data, cache)
        cast(SpiritStudent, inner_network(student)).start_from(front.network, network)
    part = inner_network(front.network if front else recipe.build(stage.data))
    summary = NetworkSummary(
        name_of(recipe.named),
        parameters(part),
        flops(part, stage.data.image_size),
        test=front.fitted.test if front else {},
        key=recipe.key(stage.data),
    )
    return Front(recipe.key(stage.data), summary)


def front_recipe(
    settings: DictConfig,
    dataset: DictConfig,
    teacher: nn.Module,
    digest: str,
    data: tuple[ArrayDataModule, ArrayDataModule],
) -> FrontRecipe:
    """Return the recipe of a front.

    Args:
        settings: of the run.
        dataset: node of the stage's data.
        teacher: the network, with an ``AdaptedInput`` if its input differs from that of the run's data.
        digest: of the teacher.
        data: of the run, and of the stage.
    """
    node, distilled = settings.feature_distillation, settings.distilled
    path = cut_of(inner_network(teacher), distilled.get("teacher_cut"), distilled.get("image_size", 64))
    front = _front(teacher, path, *data)
    with torch.no_grad():
        shape = tuple(front.eval()(example_of(data[1])).shape[1:])
    if isinstance(front, AdaptedInput) and not isinstance(teacher, AdaptedInput):
        digest = key_of([digest, front.normalization])  # that of the run's data, which no other part of the key knows
    options = {k: v for k, v in plain(distilled).items() if k not in ("head", "rest_rate")}
    rate = {} if node.lr is None else {"lr": node.lr}
    return FrontRecipe(
        "student's front",
        OmegaConf.create({**options, "_target_": FRONT}),
        dataset,
        cast(DictConfig, OmegaConf.merge(node.optimizer, rate)),
        node.scheduler,
        other_trainer(settings, node),
        settings.seed,
        settings.compile,
        represents=freeze(front, settings.trainer),
        shape=shape,
        teacher=digest,
    )


def _front(teacher: nn.Module, path: str, data: ArrayDataModule, other: ArrayDataModule) -> nn.Module:
    """Return a teacher's front for images of other data than those that the teacher is adapted to."""
    spec = InputSpec(mean=data.mean, std=data.std)
    if isinstance(teacher, AdaptedInput):
        spec = InputSpec(teacher.size, *teacher.normalization, teacher.interpolation)
    front = cut.front(inner_network(teacher), path)
    return for_data(front, spec, image_size=other.image_size, mean=other.mean, std=other.std)
