"""What loggers are told beside the metrics that the training logs itself."""

import sys
from collections.abc import Callable
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from rich.markup import escape

from stkd_lightning.redaction import redacted
from stkd_lightning.reporting.console import say
from stkd_lightning.reporting.lenient_wandb import sync, words
from stkd_lightning.reporting.metrics_file import MetricsFile
from stkd_lightning.reporting.summary import Summary

FILES = (CSVLogger, MetricsFile)  # whose columns are those of training


def log_configuration(loggers: list[Logger], config: dict[str, Any]) -> None:
    """Give dashboards the resolved configuration without credentials; beside a file it lies as ``config.yaml``."""
    for logger in loggers:
        if not isinstance(logger, FILES):
            logger.log_hyperparams(redacted(config))


def finish(loggers: list[Logger], summary: Summary) -> None:
    """Give dashboards the test figures, the selected student's under ``selected/``, and close them.

    A dashboard's fault is a warning: its figures are in ``summary.json``, too.

    Args:
        loggers: of the run.
        summary: as in ``summary.json``.
    """
    test = summary["student"]["test"]
    results = {f"test/{k}": v for k, v in test["last"].items()} | {
        f"selected/{k}": v for k, v in test["selected"].items()
    }
    for logger in loggers:
        if isinstance(logger, FILES):
            logger.finalize("success")
            continue
        if isinstance(logger, WandbLogger):
            _finish_wandb(logger.experiment, results | {"summary": redacted(summary)})
        else:
            _warn(type(logger).__name__, _fault(logger.log_metrics, results))
        _warn(type(logger).__name__, _fault(logger.finalize, "success"))


def abandon() -> None:
    """Close the dashboard of a run that failed, so that the next job of a sweep does not write into it."""
    wandb: Any = sys.modules.get("wandb")  # without it nothing was opened
    if wandb is not None and wandb.run is not None:
        _warn("W&B", _fault(wandb.run.finish, 1))


def _finish_wandb(run: Any, results: dict[str, Any]) -> None:
    offline, kept, command = run.offline, not run.disabled, sync(run)
    fault = _fault(run.summary.update, results)
    fault = _fault(run.finish) or fault  # whatever else failed, the next job of a sweep needs a run of its own
    if fault and kept:
        _warn("W&B", f"{fault}; upload what is left with: {command}")
    elif offline:
        say(f"W&B: offline; upload it with: {command}")


def _fault(call: Callable[..., Any], *arguments: Any) -> str | None:
    """Return what is wrong with a call to a dashboard."""
    try:
        call(*arguments)
    except Exception as error:  # whatever a dashboard raises
        return words(error)
    return None


def _warn(name: str, fault: str | None) -> None:
    if fault:
        say(f"[yellow]warning: {name}: {escape(redacted(fault))}[/yellow]")
