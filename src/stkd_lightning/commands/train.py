"""The command ``train``: settings -> plan -> module -> fitted student -> summary."""

from pathlib import Path
from typing import Any

import lightning as L
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.callbacks import Checkpoints, LogEachEpoch, Provenance, Seeding, Throughput
from stkd_lightning.callbacks.checkpoint_folder import claimed
from stkd_lightning.commands.config.run_folder import check_fresh
from stkd_lightning.commands.diagnose import Extent, time_limit, write_diagnostics
from stkd_lightning.commands.training.architectures import complete_architectures
from stkd_lightning.commands.training.determinism import set_determinism
from stkd_lightning.commands.training.ensemble import complete_teacher
from stkd_lightning.commands.training.fit import fit_and_test, quiet, with_bar
from stkd_lightning.commands.training.loss_checks import check_loss
from stkd_lightning.commands.training.pretrain import announcement
from stkd_lightning.commands.training.resume import find_earlier
from stkd_lightning.commands.training.stages import RunPlan, build_module, find_baseline, plan_run, summarize
from stkd_lightning.commands.training.start import complete_student
from stkd_lightning.commands.training.trial import try_settings
from stkd_lightning.distillation.module import DistillationModule
from stkd_lightning.reporting.loggers.finish import abandon, finish, log_configuration
from stkd_lightning.reporting.run import Run
from stkd_lightning.reporting.summary import RunSummary, table
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.files import write_json, write_text
from stkd_lightning.utilities.rank import process_rank


def train(settings: DictConfig) -> float:
    """Run a composed ``train.yaml``.

    Args:
        settings: checked and read-only; ``run_dir`` receives all files of the run.

    Returns:
        The last student's score on validation data, or on test data if there are none; sweepers optimize it.

    Raises:
        InputError: a mistake that the user can correct.
    """
    if process_rank() > 0:
        return _train(settings)
    run_dir = Path(settings.run_dir)
    with claimed(run_dir):
        check_fresh(settings, run_dir)  # again: another process may have written a run while this one started
        return _train(settings)


def _train(settings: DictConfig) -> float:
    quiet()
    set_determinism(settings.deterministic)
    ranks = try_settings(settings)
    check_loss(settings)
    settings = complete_student(complete_architectures(complete_teacher(settings)))
    earlier = find_earlier(settings) if settings.resume == "auto" else None
    if settings.resume == "auto" and earlier is None:
        print_rank_zero(f"{settings.run_dir}: no checkpoint to resume from; a new run starts")
    if earlier and earlier.summary:
        print_rank_zero(f"{settings.run_dir}: this run is already finished; nothing to do")
        return earlier.summary.result
    plan = plan_run(settings, earlier, ranks)
    module = build_module(plan)  # refuses what does not fit before a baseline is trained
    baseline = find_baseline(plan)
    mode = {"precision": plan.settings.precision, "compile": plan.settings.compile}
    print_rank_zero(announcement("student", plan.settings.student, plan.data, plan.settings.trainer, **mode))
    try:
        trainer = _trainer(plan)
        fitted = fit_and_test(module, plan.data, trainer, earlier.checkpoint if earlier else None)
    except BaseException:
        abandon()
        raise
    if trainer.is_global_zero:
        summary = summarize(plan, baseline, fitted)
        _publish(plan, module, trainer, summary)
        return summary.result
    return (fitted.validation or fitted.test["last"])[plan.data.task.score.name]


def _trainer(plan: RunPlan) -> L.Trainer:
    """Build the trainer, and write ``config.yaml``."""
    settings, data = plan.settings, plan.data
    run_dir = Path(settings.run_dir)
    config = plan.origin.config
    if plan.earlier:
        print_rank_zero(f"student: resumed from {plan.earlier.checkpoint}")
    if process_rank() == 0:
        run_dir.mkdir(parents=True, exist_ok=True)
        write_text(run_dir / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))
    loggers: list[Logger] = [instantiate(node) for node in settings.logger.values()]
    log_configuration(loggers, config)
    checkpoints = Checkpoints(
        run_dir / "checkpoints",
        select=data.has_validation,
        minutes=settings.checkpoint_minutes,
        score=data.task.score,
    )
    callbacks: list[Any] = [instantiate(node) for node in settings.callbacks.values()]
    callbacks += [LogEachEpoch(), Throughput(), Provenance(plan.origin), Seeding(settings.seed), checkpoints]
    callbacks = with_bar(settings.trainer, callbacks)
    return instantiate(settings.trainer, callbacks=callbacks, logger=loggers, default_root_dir=str(run_dir))


def _publish(plan: RunPlan, module: DistillationModule, trainer: L.Trainer, summary: RunSummary) -> None:
    """Print and write the results of a run; ``summary.json`` comes last, since it marks the run as finished."""
    run_dir, task, wanted = Path(plan.settings.run_dir), plan.data.task, plan.settings.diagnostics
    print_rank_zero(table(summary, task))
    if task.has_pictures and wanted is not False:
        bar = trainer.progress_bar_callback is not None
        in_time = Extent(seconds=time_limit(summary.seconds), bar=bar)
        extent = in_time if wanted == "auto" else Extent(wanted, bar=bar)
        write_diagnostics(module, plan.data, run_dir, trainer.strategy.root_device, extent)
    finish(trainer.loggers, Run(summary, plan.origin.config, run_dir))
    write_json(run_dir / "summary.json", summary.to_plain())
    print_rank_zero(f"{run_dir}: summary.json, config.yaml, metrics.csv, checkpoints/")
