"""What loggers are told beside the metrics that the training logs itself."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from rich.markup import escape

from stkd_lightning.reporting.loggers.fault_tolerant import words
from stkd_lightning.reporting.loggers.metrics_csv import MetricsFile
from stkd_lightning.reporting.loggers.mlflow import finish_mlflow
from stkd_lightning.reporting.loggers.tensorboard import finish_tensorboard
from stkd_lightning.reporting.loggers.timeouts import bounded
from stkd_lightning.reporting.loggers.wandb import FINISH, sync
from stkd_lightning.reporting.loggers.wandb_run import keep_student, tell
from stkd_lightning.reporting.summary import RunSummary
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.redaction import redacted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILES = (CSVLogger, MetricsFile)  # whose columns are those of training


def log_configuration(loggers: list[Logger], config: dict[str, Any]) -> None:
    """Give dashboards the resolved configuration without credentials; beside a file it lies as ``config.yaml``."""
    for logger in loggers:
        if not isinstance(logger, FILES):
            logger.log_hyperparams(redacted(config))


def finish(
    loggers: list[Logger],
    summary: RunSummary,
    run_dir: Path | None = None,
    figures: "Mapping[str, Figure] | None" = None,
) -> None:
    """Give dashboards the test figures, the selected student's under ``selected/``, pictures, and close them.

    A dashboard's fault is a warning: all of it lies in the run's folder, too.

    Args:
        loggers: of the run.
        summary: as in ``summary.json``.
        run_dir: with the student's checkpoints, for dashboards that keep it.
        figures: pictures of the run by name; ``None``: made of what lies in ``run_dir``.
    """
    test = summary.student.test
    results = {f"test/{k}": v for k, v in test["last"].items()} | {
        f"selected/{k}": v for k, v in test["selected"].items()
    }
    dashboards = [logger for logger in loggers if not isinstance(logger, FILES)]
    for logger in loggers:
        if isinstance(logger, FILES):
            logger.finalize("success")
    if figures is None:
        figures = _drawn(run_dir) if dashboards and run_dir else {}
    for logger in dashboards:
        if isinstance(logger, WandbLogger):
            keeps = run_dir if getattr(logger, "keeps", False) else None
            _finish_wandb(logger, results, summary, figures, keeps)
        elif not getattr(logger, "given_up", False):
            label = getattr(logger, "label", type(logger).__name__)
            if isinstance(logger, TensorBoardLogger):
                _warn(label, _fault(finish_tensorboard, logger, results, figures))
            elif isinstance(logger, MLFlowLogger):
                _warn(label, _fault(finish_mlflow, logger, results, figures))
            else:
                _warn(label, _fault(logger.log_metrics, results))
            _warn(label, _fault(logger.finalize, "success"))


def _drawn(run_dir: Path) -> "dict[str, Figure]":
    """Draw a run's pictures; what cannot be drawn is a warning."""
    from stkd_lightning.reporting.figures import pictures  # a second of import
    from stkd_lightning.reporting.grouping import settings
    from stkd_lightning.reporting.run import read_run

    try:
        return {picture.name: picture.figure for picture in pictures(settings([read_run(run_dir)]))}
    except Exception as error:  # whatever drawing raises
        _warn("pictures", words(error))
        return {}


def abandon() -> None:
    """Close the dashboard of a run that failed, so that the next job of a sweep does not write into it."""
    wandb: Any = sys.modules.get("wandb")  # without it nothing was opened
    if wandb is not None and wandb.run is not None:
        _warn("W&B", _fault(wandb.run.finish, 1))


def _finish_wandb(
    logger: WandbLogger,
    results: dict[str, float],
    summary: RunSummary,
    figures: "Mapping[str, Figure]",
    run_dir: Path | None,
) -> None:
    run = logger.experiment
    offline, kept, command = run.offline, not run.disabled, sync(run)

    def hand_over() -> None:
        tell(run, results, summary, figures)
        if run_dir:
            keep_student(run, run_dir / "checkpoints", summary)

    limit = getattr(getattr(run, "settings", None), "finish_timeout", None)
    fault = _fault(bounded, hand_over, min(FINISH, limit or FINISH))
    fault = _fault(run.finish) or fault  # whatever else failed, the next job of a sweep needs a run of its own
    if fault and kept:
        _warn("W&B", f"{fault}; upload what is left with: {command}")
    elif offline:
        print_rank_zero(f"W&B: offline; upload it with: {command}")
    _fault(logger.finalize, "success")


def _fault(call: Callable[..., Any], *arguments: Any) -> str | None:
    """Return what is wrong with a call to a dashboard."""
    try:
        call(*arguments)
    except Exception as error:  # whatever a dashboard raises
        return words(error)
    return None


def _warn(name: str, fault: str | None) -> None:
    if fault:
        print_rank_zero(f"[yellow]warning: {name}: {escape(redacted(fault))}[/yellow]")
