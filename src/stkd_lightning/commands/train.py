"""A whole run: data -> teacher -> baseline -> student -> test -> summary."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import lightning as L
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from torch import nn

from stkd_lightning.callbacks import Checkpoints, Provenance, Seeding, Throughput
from stkd_lightning.callbacks.checkpoint_folder import claimed, clear_run
from stkd_lightning.commands.diagnose import write_diagnostics
from stkd_lightning.commands.training import precision as speed
from stkd_lightning.commands.training import teacher as teachers
from stkd_lightning.commands.training.fit import Fitted, fit_and_test, quiet, try_settings
from stkd_lightning.commands.training.loss_checks import check_loss, say_features, try_features
from stkd_lightning.commands.training.pretrain import (
    TRAINED,
    PretrainedNetwork,
    Recipe,
    data_facts,
    get_or_train,
    plain,
    training,
)
from stkd_lightning.commands.training.replay import bytes_needed, replay_folder
from stkd_lightning.commands.training.resume import Earlier, earlier, name_dashboards
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.distillation.module import DistillationModule
from stkd_lightning.inference.student_info import name_of
from stkd_lightning.models.build import build_network, example_of, input_facts
from stkd_lightning.models.cost import flops, parameters
from stkd_lightning.reporting.loggers.finish import abandon, finish, log_configuration
from stkd_lightning.reporting.summary import Summary, environment, table
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.files import write_json, write_text
from stkd_lightning.utilities.paths import cache_root
from stkd_lightning.utilities.random import seeded
from stkd_lightning.utilities.rank import process_rank
from stkd_lightning.utilities.redaction import redacted


def train(config: DictConfig) -> float:
    """Run a composed ``train.yaml`` to its end.

    Args:
        config: resolved by Hydra; ``run_dir`` receives everything that the run leaves.

    Returns:
        The last student's accuracy on validation images, else on test images, for sweepers that optimize.

    Raises:
        InputError: a mistake that the user can mend.
    """
    with claimed(Path(config.run_dir)) if process_rank() == 0 else nullcontext():
        return _train(config)


def _train(config: DictConfig) -> float:
    quiet()
    ranks = try_settings(config)
    mixup = instantiate(config.mixup)
    config.num_classes = config.num_samples = 2  # a loss is tried before there are data
    check_loss(instantiate(config.loss), mixup, config)
    before = earlier(config) if config.resume == "auto" else None
    if config.resume == "auto" and before is None:
        print_rank_zero(f"{config.run_dir}: there is no checkpoint to go on from; the run begins")
    if before and before.summary:
        print_rank_zero(f"{config.run_dir}: this run was finished before; nothing is left to do")
        return _result(before.summary["student"])
    data: ArrayDataModule = instantiate(config.dataset)
    data.prepare_data()
    if before:
        before.check_data(data_facts(data))
    elif process_rank() == 0:
        clear_run(Path(config.run_dir))
    batches = len(data.train_dataloader())  # refuses a batch larger than the data before anything is trained
    config.num_classes, config.num_samples = data.num_classes, len(data.arrays.splits["train"].labels)
    seeded(config.seed)  # a loss may make parameters of its own, now or when it is fitted to the networks
    loss: nn.Module = instantiate(config.loss)
    student = build_network(config.distilled or config.student, data, seed=config.seed)
    optimizer, schedule = instantiate(config.optimizer), instantiate(config.scheduler)

    asks = bool(getattr(loss, "needs_teacher", True))
    steps = speed.length(config.trainer, batches)
    if asks and config.teacher.replay:
        bytes_needed(config, data, steps, "16")  # the least that it can take, before a teacher is trained
    if asks and config.teacher.checkpoint is None:
        try_features(loss, student, config.teacher.network, data, seed=config.seed)  # before a teacher is trained
    teacher = _teacher(config, data, needed=asks)
    digest = teacher.network.digest if teacher and asks else None
    if before:
        before.check_teacher(digest)
        before.settle(config)
    _decide(config, data, student, teacher if asks else None, steps)
    replay = None
    if teacher and asks and config.teacher.replay:
        replay = replay_folder(config, data, teacher.network, ranks=ranks, batches=steps)
    seeded(config.seed)
    module = DistillationModule(
        student,
        loss,
        teacher.network if teacher else None,
        mixup,
        optimizer,
        schedule,
        compile=config.compile,
        replay=replay,
        example=example_of(data),
    )
    say_features(loss)
    baseline = (
        get_or_train(_baseline_recipe(config), data, cache_root(config.cache_dir) / TRAINED)
        if config.baseline
        else None
    )
    name_dashboards(config)
    print_rank_zero(training("student", config.student, data, config.trainer, config.precision, compile=config.compile))
    facts = {
        "config": redacted(plain(config)),
        "data": data_facts(data),
        "input": input_facts(student, data),
        "teacher": digest,
    }
    try:
        trainer = _trainer(config, facts, before, select=data.has_validation)
        fitted = fit_and_test(module, data, trainer, before.checkpoint if before else None)
    except BaseException:
        abandon()
        raise

    if trainer.is_global_zero:
        run_dir = Path(config.run_dir)
        summary = _summary(config, data, student, fitted, teacher, baseline)
        write_json(run_dir / "summary.json", summary)
        print_rank_zero(table(summary))
        write_diagnostics(module, data, run_dir, trainer.strategy.root_device)
        print_rank_zero(f"{run_dir}: summary.json, config.yaml, metrics.csv, checkpoints/")
        finish(trainer.loggers, summary, run_dir)
        return _result(summary["student"])
    return (fitted.validation or fitted.test["last"])["accuracy"]


def _result(student: dict[str, Any]) -> float:
    return float((student["validation"] or student["test"]["last"])["accuracy"])


def _decide(
    config: DictConfig, data: ArrayDataModule, student: nn.Module, teacher: teachers.Teacher | None, steps: int
) -> None:
    """Put what makes the run fast in place of ``auto``, so that its folder and its checkpoints say it."""
    device = speed.device_type(config.trainer)
    config.precision = config.trainer.precision = speed.precision(config.trainer.precision, student, device)
    work = 3 * flops(student, data.image_size)
    if teacher is not None:
        work += flops(teacher.network.network, data.image_size)
    work *= steps * config.dataset.batch_size
    config.compile = speed.compiles(config.compile, device=device, flops=work, steps=steps)
    if teacher is not None:
        teacher.network.compiles = config.compile


def _teacher(config: DictConfig, data: ArrayDataModule, *, needed: bool) -> teachers.Teacher | None:
    node = config.teacher
    if node.checkpoint is not None:
        return teachers.load(node, config.trainer, data, cache_root(config.cache_dir))
    trainer = cast(DictConfig, OmegaConf.merge(config.trainer, {"max_epochs": node.max_epochs}))
    own_rate = {} if node.lr is None else {"lr": node.lr}
    optimizer = cast(DictConfig, OmegaConf.merge(node.optimizer, own_rate))
    recipe = Recipe(
        "teacher", node.network, _plain_batches(config), optimizer, node.scheduler, trainer, node.seed, config.compile
    )
    return teachers.obtain(node, recipe, data, cache_root(config.cache_dir), needed=needed)


def _plain_batches(config: DictConfig) -> DictConfig:
    """Return the data for what is trained alone, for which a loss's own way to make batches is nothing."""
    options = plain(config.dataset)
    return OmegaConf.create({k: v for k, v in options.items() if k not in ("sampler", "sampler_groups")})


def _baseline_recipe(config: DictConfig) -> Recipe:
    return Recipe(
        "baseline",
        config.student,
        _plain_batches(config),
        config.optimizer,
        config.scheduler,
        config.trainer,
        config.seed,
        config.compile,
    )


def _trainer(config: DictConfig, facts: dict[str, Any], before: Earlier | None, *, select: bool) -> L.Trainer:
    run_dir = Path(config.run_dir)
    folder = run_dir / "checkpoints"
    if before:
        print_rank_zero(f"student: goes on from {before.checkpoint}")
    if process_rank() == 0:
        run_dir.mkdir(parents=True, exist_ok=True)
        write_text(run_dir / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(facts["config"])))
    loggers: list[Logger] = [instantiate(node) for node in config.logger.values()]
    log_configuration(loggers, facts["config"])
    callbacks = [instantiate(node) for node in config.callbacks.values()]
    callbacks += [Throughput(), Provenance(facts), Seeding(config.seed)]
    callbacks += [Checkpoints(folder, select=select, minutes=config.checkpoint_minutes)]
    return instantiate(config.trainer, callbacks=callbacks, logger=loggers, default_root_dir=str(run_dir))


def _network(config: DictConfig, network: nn.Module, data: ArrayDataModule, test: dict[str, Any]) -> Summary:
    return {
        "network": name_of(config),
        "parameters": parameters(network),
        "flops": flops(network, data.image_size),
        "test": test,
    }


def _summary(
    config: DictConfig,
    data: ArrayDataModule,
    student: nn.Module,
    fitted: Fitted,
    teacher: teachers.Teacher | None,
    baseline: PretrainedNetwork | None,
) -> Summary:
    summary: Summary = {
        "seed": config.seed,
        "loss": config.method,
        "overrides": redacted(OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)),
        "data": data_facts(data),
        "student": _network(config.student, student, data, fitted.test)
        | {"validation": fitted.validation, "selected_epoch": fitted.selected_epoch},
        "images_per_second": fitted.images_per_second,
        "seconds": fitted.seconds,
        **environment(),
    }
    if teacher:
        # A teacher trained here was tested then; of a loaded one the student's test tells the accuracy.
        seen = {"accuracy": fitted.test["last"]["teacher_accuracy"]}
        test = teacher.figures.test if teacher.figures else {"last": seen}
        summary["teacher"] = _network(config.teacher.network, teacher.network.network, data, test)
        summary["teacher"] |= {"source": teacher.source, "digest": teacher.network.digest}
        summary["teacher_checkpoint"] = teacher.checkpoint
    if baseline:
        alone = build_network(config.student, data)  # a method may train another network
        summary["baseline"] = _network(config.student, alone, data, baseline.fitted.test) | {"key": baseline.key}
    return summary
