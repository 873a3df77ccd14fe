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
from stkd_lightning.commands.training import teacher as teachers
from stkd_lightning.commands.training.fit import Fitted
from stkd_lightning.commands.training.loss_checks import check_classes, say_features, try_features
from stkd_lightning.commands.training.precision import count_steps, device_type, resolve_compile, resolve_precision
from stkd_lightning.commands.training.pretrain import (
    TRAINED,
    PretrainedNetwork,
    Recipe,
    announcement,
    get_or_train,
    plain,
)
from stkd_lightning.commands.training.replay import bytes_needed, replay_folder
from stkd_lightning.commands.training.resume import Earlier, name_dashboards
from stkd_lightning.data.description import DataDescription
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.distillation.module import DistillationModule
from stkd_lightning.inference.provenance import StudentProvenance
from stkd_lightning.inference.student_info import name_of
from stkd_lightning.models.build import build_network, example_of, input_facts
from stkd_lightning.models.cost import flops, parameters
from stkd_lightning.reporting.summary import NetworkSummary, RunSummary, environment
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.paths import cache_root
from stkd_lightning.utilities.random import seeded
from stkd_lightning.utilities.rank import process_rank
from stkd_lightning.utilities.redaction import redacted


@dataclass(frozen=True)
class RunPlan:
    """Everything that a student's training is decided by.

    Attributes:
        settings: read-only; the checked settings, with counts, precision, compilation and dashboards filled in.
        data: prepared.
        student: the network that is trained.
        loss: fitted to the networks where it reads features.
        teacher: ``None`` where there is none.
        teaches: whether the loss asks the teacher.
        replay: folder of the teacher's logits; ``None`` where they are not kept.
        baseline: the student trained without a teacher, where that was asked for.
        origin: what the student's checkpoints hold of all this.
        earlier: the interrupted run that goes on; ``None`` for a new one.
    """

    settings: DictConfig
    data: ArrayDataModule
    student: nn.Module
    loss: nn.Module
    teacher: teachers.Teacher | None
    teaches: bool
    replay: Path | None
    baseline: PretrainedNetwork | None
    origin: StudentProvenance
    earlier: Earlier | None


def plan_run(settings: DictConfig, earlier: Earlier | None, ranks: int) -> RunPlan:
    """Prepare the data, find or train the teacher, and decide what the settings leave open.

    Args:
        settings: checked and read-only.
        earlier: the interrupted run that goes on; ``None`` for a new one.
        ranks: number of processes that share a batch.

    Raises:
        InputError: settings, data and teacher that do not fit each other or the earlier run.
    """
    data: ArrayDataModule = instantiate(settings.dataset)
    data.prepare_data()
    description = DataDescription.of(data)
    if earlier:
        earlier.check_data(description)
    elif process_rank() == 0:
        clear_run(Path(settings.run_dir))
    batches = len(data.train_dataloader())  # refuses a batch larger than the data before anything is trained
    counts = {"num_classes": data.num_classes, "num_samples": len(data.arrays.splits["train"].labels)}
    settings = with_values(settings, counts)
    seeded(settings.seed)  # a loss may draw parameters, now or when it is fitted to the networks
    loss: nn.Module = instantiate(settings.loss)
    check_classes(loss, data, settings.method)
    student = build_network(settings.distilled or settings.student, data, seed=settings.seed)

    teaches = bool(getattr(loss, "needs_teacher", True))
    steps = count_steps(settings.trainer, batches)
    if teaches and settings.teacher.replay:
        bytes_needed(settings, data, steps, "16")  # the least that it can take, before a teacher is trained
    if teaches and settings.teacher.checkpoint is None:
        try_features(loss, student, settings.teacher.network, data, seed=settings.seed)  # before a teacher is trained
    teacher = find_teacher(settings, data, needed=teaches)
    digest = teacher.network.digest if teacher and teaches else None
    if earlier:
        earlier.check_teacher(digest)
        settings = earlier.decided(settings)
    settings = _decided(settings, data, student, teacher if teaches else None, steps)
    if teacher and teaches:
        teacher.network.compiles = settings.compile
    replay = None
    if teacher and teaches and settings.teacher.replay:
        replay = replay_folder(settings, data, teacher.network, ranks=ranks, batches=steps)
    baseline = None
    if settings.baseline:
        baseline = get_or_train(baseline_recipe(settings), data, cache_root(settings.cache_dir) / TRAINED)
    settings = name_dashboards(settings, earlier)
    origin = StudentProvenance(redacted(plain(settings)), description, input_facts(student, data), digest)
    return RunPlan(settings, data, student, loss, teacher, teaches, replay, baseline, origin, earlier)


def _decided(
    settings: DictConfig, data: ArrayDataModule, student: nn.Module, teacher: teachers.Teacher | None, steps: int
) -> DictConfig:
    """Return settings with precision and compilation in place of ``auto``."""
    device = device_type(settings.trainer)
    precision = resolve_precision(settings.trainer.precision, student, device)
    work = 3 * flops(student, data.image_size)
    if teacher is not None:
        work += flops(teacher.network.network, data.image_size)
    work *= steps * settings.dataset.batch_size
    compile = resolve_compile(settings.compile, device=device, flops=work, steps=steps)
    return with_values(settings, {"precision": precision, "trainer.precision": precision, "compile": compile})


def find_teacher(settings: DictConfig, data: ArrayDataModule, *, needed: bool) -> teachers.Teacher | None:
    """Load the teacher that the settings name, or find or train the one that they describe.

    Returns:
        ``None`` where there is none and none is needed.
    """
    node, cache = settings.teacher, cache_root(settings.cache_dir)
    if node.checkpoint is not None:
        return teachers.load(node, settings.trainer, data, cache)
    trainer = cast(DictConfig, OmegaConf.merge(settings.trainer, {"max_epochs": node.max_epochs}))
    rate = {} if node.lr is None else {"lr": node.lr}
    optimizer = cast(DictConfig, OmegaConf.merge(node.optimizer, rate))
    recipe = Recipe(
        "teacher",
        node.network,
        _plain_batches(settings),
        optimizer,
        node.scheduler,
        trainer,
        node.seed,
        settings.compile,
    )
    return teachers.obtain(node, recipe, data, cache, needed=needed)


def _plain_batches(settings: DictConfig) -> DictConfig:
    """Return the data for a network that is trained alone, which needs no loss's sampler."""
    options = plain(settings.dataset)
    return OmegaConf.create({k: v for k, v in options.items() if k not in ("sampler", "sampler_groups")})


def baseline_recipe(settings: DictConfig) -> Recipe:
    """Return how the student is trained without a teacher."""
    return Recipe(
        "baseline",
        settings.student,
        _plain_batches(settings),
        settings.optimizer,
        settings.scheduler,
        settings.trainer,
        settings.seed,
        settings.compile,
    )


def build_module(plan: RunPlan) -> DistillationModule:
    """Build the module that trains the student, and print what is about to be trained."""
    settings, data = plan.settings, plan.data
    seeded(settings.seed)
    module = DistillationModule(
        plan.student,
        plan.loss,
        plan.teacher.network if plan.teacher else None,
        instantiate(settings.mixup),
        instantiate(settings.optimizer),
        instantiate(settings.scheduler),
        compile=settings.compile,
        replay=plan.replay,
        task=data.task,
        example=example_of(data),
    )
    say_features(plan.loss)
    how = {"precision": settings.precision, "compile": settings.compile}
    print_rank_zero(announcement("student", settings.student, data, settings.trainer, **how))
    return module


def summarize(plan: RunPlan, fitted: Fitted) -> RunSummary:
    """Return what a run leaves in ``summary.json``."""
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
        baseline=None if plan.baseline is None else _baseline_summary(plan, plan.baseline),
        score=data.task.score,
    )


def _cost(node: DictConfig, network: nn.Module, data: ArrayDataModule) -> dict[str, Any]:
    return {"network": name_of(node), "parameters": parameters(network), "flops": flops(network, data.image_size)}


def _teacher_summary(plan: RunPlan, teacher: teachers.Teacher, fitted: Fitted) -> NetworkSummary:
    # A teacher trained here was tested then; of a loaded one the student's test has the score.
    name = plan.data.task.score.name
    measured = {"last": {name: fitted.test["last"][f"teacher_{name}"]}}
    return NetworkSummary(
        **_cost(plan.settings.teacher.network, teacher.network.network, plan.data),
        test=teacher.figures.test if teacher.figures else measured,
        source=teacher.source,
        digest=teacher.network.digest,
    )


def _baseline_summary(plan: RunPlan, baseline: PretrainedNetwork) -> NetworkSummary:
    alone = build_network(plan.settings.student, plan.data)  # a method may train another network
    return NetworkSummary(**_cost(plan.settings.student, alone, plan.data), test=baseline.fitted.test, key=baseline.key)
