"""The stages of a training run, from checked settings to its summary; each returns a value for the next."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from stkd_lightning.callbacks.checkpoint_folder import clear_run
from stkd_lightning.commands.config.compose import with_values
from stkd_lightning.commands.config.credentials import public
from stkd_lightning.commands.training import teacher as teachers
from stkd_lightning.commands.training.data_options import data_like, other_data, without_sampler
from stkd_lightning.commands.training.ensemble import combine
from stkd_lightning.commands.training.features import Front, find_front, plan_features
from stkd_lightning.commands.training.fine_tuning import plan_pretraining, start_student
from stkd_lightning.commands.training.fit import Fitted
from stkd_lightning.commands.training.limits import check_limits, count_steps, teacher_trainer
from stkd_lightning.commands.training.loss_checks import (
    check_classes,
    check_labels,
    check_mixing,
    print_features,
    try_features,
)
from stkd_lightning.commands.training.optimizer import optimizer_factory
from stkd_lightning.commands.training.precision import device_type, resolve_compile, resolve_precision
from stkd_lightning.commands.training.pretrain import (
    TRAINED,
    PretrainedNetwork,
    Recipe,
    get_or_train,
)
from stkd_lightning.commands.training.ranks import announce_small_batches
from stkd_lightning.commands.training.replay import bytes_needed, replay_folder
from stkd_lightning.commands.training.resume import EarlierRun, name_dashboards
from stkd_lightning.data.datasets.image_folder import ImageFolderDataModule
from stkd_lightning.data.description import DataDescription
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.distillation.look_ahead import check_resident
from stkd_lightning.distillation.module import DistillationModule
from stkd_lightning.inference.about import name_of
from stkd_lightning.inference.provenance import StudentProvenance
from stkd_lightning.losses.base import reads_logits
from stkd_lightning.models.build import build_network, example_of, input_facts
from stkd_lightning.models.cost import flops, parameters
from stkd_lightning.reporting.summary import NetworkSummary, RunSummary, environment
from stkd_lightning.utilities.paths import cache_root
from stkd_lightning.utilities.random import seeded
from stkd_lightning.utilities.rank import process_rank
from stkd_lightning.utilities.redaction import redacted


@dataclass(frozen=True)
class RunPlan:
    """All inputs of a student's training.

    Attributes:
        settings: read-only settings, with final counts, precision, compilation and dashboard names.
        data: prepared data.
        student: the network to train.
        loss: the loss; the module fits it to the networks.
        teacher: the teacher; ``None`` if there is none.
        front: the first stage's result; ``None`` if the run has no such stage.
        replay: folder of the teacher's stored logits; ``None`` if they are not stored.
        origin: provenance for the student's checkpoints.
        earlier: the run to resume; ``None`` for a new run.
    """

    settings: DictConfig
    data: ArrayDataModule
    student: nn.Module
    loss: nn.Module
    teacher: teachers.Teacher | None
    front: Front | None
    replay: Path | None
    origin: StudentProvenance
    earlier: EarlierRun | None


def plan_run(settings: DictConfig, earlier: EarlierRun | None, ranks: int) -> RunPlan:
    """Prepare the data, find or train the teacher, and resolve the settings that are ``auto``.

    Args:
        settings: checked and read-only.
        earlier: the run to resume; ``None`` for a new run.
        ranks: number of ranks that share a batch.

    Raises:
        InputError: the settings, the data and the teacher do not fit each other or the run to resume.
    """
    if earlier:
        settings = earlier.resolve_storage(settings)
    data: ArrayDataModule = instantiate(settings.dataset)
    if isinstance(data, ImageFolderDataModule):
        settings = with_values(settings, {"dataset.storage": data.storage})
    data.prepare_data()
    description = DataDescription.of(data)
    if earlier:
        earlier.check_data(description)
    elif process_rank() == 0:
        clear_run(Path(settings.run_dir))
    loader = data.train_dataloader()  # refuses a batch larger than the data before any training
    batches = len(loader)
    if loader.workers or loader.per_image:
        check_resident(settings.teacher.look_ahead, None)
    check_limits(settings.trainer, data, ranks)
    counts = {"num_classes": data.num_classes, "num_samples": data.arrays.splits["train"].samples}
    settings = with_values(settings, counts)
    seeded(settings.seed)  # a loss may draw random parameters, here or when it is fitted to the networks
    loss: nn.Module = instantiate(settings.loss)
    check_classes(loss, data, settings.method)
    check_labels(loss, data.task)
    check_mixing(settings, data)
    stage = plan_features(settings, data)
    before = plan_pretraining(settings, data)
    images = stage.input if stage else before.input if before else {}
    student = build_network(settings.distilled or settings.student, data, seed=settings.seed, **images)
    announce_small_batches(student, settings, ranks)

    needs_teacher = bool(getattr(loss, "needs_teacher", True))
    steps = count_steps(settings.trainer, batches)
    if needs_teacher and settings.teacher.replay:
        bytes_needed(settings, data, steps, "16")  # the smallest possible size, before training a teacher
    if needs_teacher and settings.teacher.checkpoint is None:
        try_features(loss, student, settings.teacher.network, data, seed=settings.seed)  # before training a teacher
    features_alone = settings.distilled is None and not reads_logits(loss) and settings.mixup.get("score") != "teacher"
    teacher = find_teacher(settings, data, needed=needs_teacher or stage is not None, any_classes=features_alone)
    digest = teacher.network.digest if teacher and (needs_teacher or stage) else None
    if earlier:
        earlier.check_teacher(digest)
    front = find_front(stage, teacher, data, student, earlier) if stage and teacher else None
    first = start_student(before, settings, student, earlier) if before else front.key if front else None
    if earlier:
        settings = earlier.resolve_auto(settings)
    settings = _resolve_auto(settings, data, student, teacher if needs_teacher else None, steps)
    if teacher and needs_teacher:
        teacher.network.compiles = settings.compile
    replay = None
    if teacher and needs_teacher and settings.teacher.replay:
        replay = replay_folder(settings, data, teacher.network, ranks=ranks, batches=steps)
    settings = name_dashboards(settings, earlier)
    origin = StudentProvenance(public(settings), description, input_facts(student, data), digest, first)
    return RunPlan(settings, data, student, loss, teacher, front, replay, origin, earlier)


def _resolve_auto(
    settings: DictConfig, data: ArrayDataModule, student: nn.Module, teacher: teachers.Teacher | None, steps: int
) -> DictConfig:
    """Return settings in which ``auto`` is replaced for precision and compilation."""
    device = device_type(settings.trainer)
    precision = resolve_precision(settings.trainer.precision, student, device)
    work = 3 * flops(student, data.image_size, len(data.mean))
    if teacher is not None:
        work += flops(teacher.network.network, data.image_size, len(data.mean))
    work *= steps * data.batch_rows
    compile = resolve_compile(settings.compile, device=device, flops=work, steps=steps)
    return with_values(settings, {"precision": precision, "trainer.precision": precision, "compile": compile})


def find_teacher(
    settings: DictConfig, data: ArrayDataModule, *, needed: bool, any_classes: bool = False
) -> teachers.Teacher | None:
    """Load the teacher's checkpoint, or find the teacher in the cache, or train it; of an ensemble each member.

    Returns:
        The teacher; ``None`` if it is neither needed nor in the cache.
    """
    node, cache = settings.teacher, cache_root(settings.cache_dir)
    if "members" in node:
        return combine(settings, data, cache, lambda member: find_teacher(member, data, needed=needed))
    if node.checkpoint is not None:
        return teachers.load(node, settings.trainer, data, cache, any_classes=any_classes)
    rate = {} if node.lr is None else {"lr": node.lr}
    optimizer = cast(DictConfig, OmegaConf.merge(node.optimizer, rate))
    dataset, digest = without_sampler(settings), None
    if node.dataset:
        dataset = other_data("teacher.dataset", dataset, node.dataset)
        digest = data_like(data, dataset, "teacher.dataset").arrays.digest
    recipe = Recipe(
        "teacher",
        node.network,
        dataset,
        optimizer,
        node.scheduler,
        teacher_trainer(settings),
        node.seed,
        settings.compile,
        digest,
    )
    return teachers.obtain(node, recipe, data, cache, needed=needed)


def baseline_recipe(settings: DictConfig) -> Recipe:
    """Return the recipe of the student trained without a teacher."""
    return Recipe(
        "baseline",
        settings.student,
        without_sampler(settings),
        settings.optimizer,
        settings.scheduler,
        settings.trainer,
        settings.seed,
        settings.compile,
    )


def normalization(mixup: DictConfig, data: ArrayDataModule) -> dict[str, Any]:
    """Return the data's mean and deviation for views that are made of normalized images, unless they are set."""
    return {name: list(getattr(data, name)) for name in ("mean", "std") if mixup.get(name, "") is None}


def build_module(plan: RunPlan) -> DistillationModule:
    """Build the module that trains the student, and announce the training."""
    settings, data = plan.settings, plan.data
    seeded(settings.seed)
    module = DistillationModule(
        plan.student,
        plan.loss,
        plan.teacher.network if plan.teacher else None,
        instantiate(settings.mixup, **normalization(settings.mixup, data)),
        optimizer_factory(settings.optimizer),
        instantiate(settings.scheduler),
        compile=settings.compile,
        cuda_graph=settings.cuda_graph,
        look_ahead=settings.teacher.look_ahead,
        measure_teacher=plan.teacher is None or plan.teacher.has_classes,
        replay=plan.replay,
        task=data.task,
        example=example_of(data),
    )
    print_features(plan.loss)
    return module


def find_baseline(plan: RunPlan) -> PretrainedNetwork | None:
    """Find the baseline in the cache, or train it; ``None`` if none is wanted."""
    settings = plan.settings
    if not settings.baseline:
        return None
    return get_or_train(baseline_recipe(settings), plan.data, cache_root(settings.cache_dir) / TRAINED)


def summarize(plan: RunPlan, baseline: PretrainedNetwork | None, fitted: Fitted) -> RunSummary:
    """Return the summary of a finished run."""
    settings, data, teacher = plan.settings, plan.data, plan.teacher
    return RunSummary(
        seed=settings.seed,
        loss=settings.method,
        overrides=tuple(redacted(OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False))),
        data=plan.origin.data,
        student=NetworkSummary(
            **_cost(settings.student, plan.student, data),
            test=fitted.test,
            validation=fitted.validation,
            selected_epoch=fitted.selected_epoch,
        ),
        images_per_second=fitted.images_per_second,
        seconds=fitted.seconds,
        **environment(),
        teacher=None if teacher is None else _teacher_summary(plan, teacher, fitted),
        teacher_checkpoint=teacher.checkpoint if teacher else None,
        baseline=None if baseline is None else _baseline_summary(plan, baseline),
        front=plan.front.summary if plan.front else None,
        score=data.task.score,
        images=data.image_counts,
    )


def _cost(node: DictConfig, network: nn.Module, data: ArrayDataModule) -> dict[str, Any]:
    return {
        "network": name_of(node),
        "parameters": parameters(network),
        "flops": flops(network, data.image_size, len(data.mean)),
    }


def _teacher_summary(plan: RunPlan, teacher: teachers.Teacher, fitted: Fitted) -> NetworkSummary:
    # A cached teacher has its test results; the score of a loaded teacher comes from the student's test.
    name = plan.data.task.score.name
    measured = {"last": {name: fitted.test["last"][f"teacher_{name}"]}} if teacher.has_classes else {}
    return NetworkSummary(
        **_cost(plan.settings.teacher.network, teacher.network.network, plan.data),
        test=teacher.fitted.test if teacher.fitted else measured,
        source=teacher.source,
        digest=teacher.network.digest,
    )


def _baseline_summary(plan: RunPlan, baseline: PretrainedNetwork) -> NetworkSummary:
    network = build_network(plan.settings.student, plan.data)  # without a method's additions to the student
    return NetworkSummary(
        **_cost(plan.settings.student, network, plan.data), test=baseline.fitted.test, key=baseline.key
    )
