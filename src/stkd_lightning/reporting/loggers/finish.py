"""Configuration at the start and results at the end of a run, for its loggers."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from stkd_lightning.reporting.loggers.fault_tolerant import error_text
from stkd_lightning.reporting.loggers.metrics_csv import MetricsFile
from stkd_lightning.reporting.loggers.mlflow import finish_mlflow
from stkd_lightning.reporting.loggers.tensorboard import finish_tensorboard
from stkd_lightning.reporting.loggers.timeouts import call_with_timeout
from stkd_lightning.reporting.loggers.wandb import FINISH, sync_command
from stkd_lightning.reporting.loggers.wandb_run import keep_student, log_results, rendered
from stkd_lightning.reporting.run import Run
from stkd_lightning.utilities.console import print_rank_zero, warn
from stkd_lightning.utilities.redaction import redacted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILES = (CSVLogger, MetricsFile)  # these contain training metrics only


def log_configuration(loggers: list[Logger], config: dict[str, Any]) -> None:
    """Log the resolved configuration without credentials to dashboards; for files, ``config.yaml`` has it."""
    for logger in loggers:
        if not isinstance(logger, FILES):
            logger.log_hyperparams(redacted(config))


def finish(
    loggers: list[Logger],
    run: Run,
    figures: "Mapping[str, Figure] | None" = None,
) -> None:
    """Log test results and figures to dashboards, and close all loggers.

    Results of the last student have the prefix ``test/``, those of the selected student ``selected/``. A fault of a
    dashboard is a warning, since the run's folder contains everything.

    Args:
        loggers: loggers of the run.
        run: the run; dashboards upload the student from its folder, if it has one.
        figures: figures by name; ``None``: drawn from the run.
    """
    test = run.summary.student.test
    results = {f"test/{k}": v for k, v in test["last"].items()} | {
        f"selected/{k}": v for k, v in test["selected"].items()
    }
    dashboards = [logger for logger in loggers if not isinstance(logger, FILES)]
    for logger in loggers:
        if isinstance(logger, FILES):
            logger.finalize("success")
    if figures is None:
        figures = _draw(run) if dashboards and run.folder else {}
    for logger in dashboards:
        if isinstance(logger, WandbLogger):
            keeps = run.folder if getattr(logger, "keeps", False) else None
            _finish_wandb(logger, results, run, figures, keeps)
        elif not getattr(logger, "stopped", False):
            label = getattr(logger, "label", type(logger).__name__)
            if isinstance(logger, TensorBoardLogger):
                _warn(label, _fault(finish_tensorboard, logger, results, figures))
            elif isinstance(logger, MLFlowLogger):
                _warn(label, _fault(finish_mlflow, logger, results, figures))
            else:
                _warn(label, _fault(logger.log_metrics, results))
            _warn(label, _fault(logger.finalize, "success"))


def _draw(run: Run) -> "dict[str, Figure]":
    """Return a run's figures; a fault is a warning."""
    from stkd_lightning.reporting.figures import escape_missing, pictures  # the import takes a second
    from stkd_lightning.reporting.grouping import settings

    try:
        return {picture.name: escape_missing(picture.figure) for picture in pictures(settings([run]))}
    except Exception as error:  # drawing raises exceptions of any type
        _warn("pictures", error_text(error))
        return {}


def abandon() -> None:
    """Close the dashboard of a failed run, so that the next job of a sweep does not write into it."""
    wandb: Any = sys.modules.get("wandb")  # if it is not imported, no run is open
    if wandb is not None and wandb.run is not None:
        _warn("W&B", _fault(wandb.run.finish, 1))


def _finish_wandb(
    logger: WandbLogger,
    results: dict[str, float],
    finished: Run,
    figures: "Mapping[str, Figure]",
    run_dir: Path | None,
) -> None:
    run = logger.experiment
    offline, enabled, command = run.offline, not run.disabled, sync_command(run)
    images: dict[str, Any] = {}
    _warn("pictures", _fault(lambda: images.update(rendered(figures) if enabled else {})))

    def upload() -> None:
        log_results(run, results, finished, images)
        if run_dir:
            keep_student(run, run_dir / "checkpoints", finished.summary)

    limit = getattr(getattr(run, "settings", None), "finish_timeout", None)
    fault = _fault(call_with_timeout, upload, min(FINISH, limit or FINISH))
    fault = _fault(run.finish) or fault  # close also after a fault: the next job of a sweep needs a new run
    if fault and enabled:
        _warn("W&B", f"{fault}; upload the rest with: {command}")
    elif offline:
        print_rank_zero(f"W&B: offline; upload it with: {command}")
    _fault(logger.finalize, "success")


def _fault(call: Callable[..., Any], *arguments: Any) -> str | None:
    """Call a dashboard; return the text of its exception, ``None`` without one."""
    try:
        call(*arguments)
    except Exception as error:  # dashboards raise exceptions of any type
        return error_text(error)
    return None


def _warn(name: str, fault: str | None) -> None:
    if fault:
        warn(f"{name}: {redacted(fault)}")
