"""Hydra's callbacks: where a sweep writes, and a command line without credentials."""

import json
import logging
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.utilities.files import write_text
from stkd_lightning.utilities.redaction import redacted

FOLDERS: list[Path] = []


class Folder(Callback):
    """Takes note of a sweep's folder, which may be named by the clock, when the sweep starts."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Take note."""
        FOLDERS[:] = [Path(config.hydra.sweep.dir).absolute()]


def outcome(run_dir: Path) -> float | None:
    """Return what a sweeper optimizes, read from a finished run's folder: ``None`` where there is no summary.

    That is the last student's accuracy on validation images, else on test images.
    """
    path = run_dir / "summary.json"
    if not path.is_file():
        return None
    summary = json.loads(path.read_text())
    student, score = summary["student"], summary.get("score", {}).get("name", "accuracy")
    return float((student["validation"] or student["test"]["last"])[score])


def hide_in_logs() -> None:
    """Have every later record of ``logging`` without credentials, whoever makes or shows it."""
    make = logging.getLogRecordFactory()

    def record(*arguments: Any, **options: Any) -> logging.LogRecord:
        made = make(*arguments, **options)
        try:
            text = made.getMessage()
        except Exception:  # its words do not fit its arguments; logging tells so itself
            return made
        if (shown := redacted(text)) != text:
            made.msg, made.args = shown, None
        return made

    logging.setLogRecordFactory(record)


class Redaction(Callback):
    """Rewrites ``multirun.yaml``, which Hydra writes just before, when a job of a multirun starts."""

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Rewrite it once; there is nothing to change at later jobs."""
        path = Path(config.hydra.sweep.dir) / "multirun.yaml"
        if config.hydra.mode == RunMode.MULTIRUN and path.is_file():
            written = OmegaConf.to_container(OmegaConf.load(path))
            if (shown := redacted(written)) != written:
                write_text(path, OmegaConf.to_yaml(OmegaConf.create(shown)))
