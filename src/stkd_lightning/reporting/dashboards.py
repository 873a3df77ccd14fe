"""What loggers are told beside the metrics that the training logs itself."""

import sys
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger

from stkd_lightning.reporting.console import say
from stkd_lightning.reporting.summary import Summary


def log_configuration(loggers: list[Logger], config: dict[str, Any]) -> None:
    """Give dashboards the resolved configuration; beside a CSV file it lies as ``config.yaml``."""
    for logger in loggers:
        if not isinstance(logger, CSVLogger):
            logger.log_hyperparams(config)


def finish(loggers: list[Logger], summary: Summary) -> None:
    """Give dashboards the test figures, the selected student's under ``selected/``, and close them.

    Args:
        loggers: of the run.
        summary: as in ``summary.json``.
    """
    test = summary["student"]["test"]
    results = {f"test/{k}": v for k, v in test["last"].items()} | {
        f"selected/{k}": v for k, v in test["selected"].items()
    }
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            _finish_wandb(logger, results | {"summary": summary})
        elif not isinstance(logger, CSVLogger):  # a CSV file's columns are those of training
            logger.log_metrics(results)
        logger.finalize("success")


def abandon() -> None:
    """Close the dashboard of a run that failed, so that the next job of a sweep does not write into it."""
    wandb: Any = sys.modules.get("wandb")  # without it nothing was opened
    if wandb is not None and wandb.run is not None:
        wandb.run.finish(exit_code=1)


def _finish_wandb(logger: WandbLogger, results: dict[str, Any]) -> None:
    run = logger.experiment
    run.summary.update(results)
    offline, folder = run.offline, Path(run.dir).parent
    run.finish()
    if offline:
        say(f"W&B: offline; upload it with: wandb sync {folder}")
