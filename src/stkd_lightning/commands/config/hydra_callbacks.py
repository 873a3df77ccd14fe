"""Hydra callbacks that store a sweep's folder and remove credentials from logs and files."""

import json
import logging
from pathlib import Path
from typing import Any

import yaml
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.commands.config.credentials import without_credentials
from stkd_lightning.utilities.files import write_text
from stkd_lightning.utilities.redaction import redacted

FOLDERS: list[Path] = []


class Folder(Callback):
    """Stores a sweep's folder when the sweep starts, since its name may contain the time."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Store the folder in ``FOLDERS``."""
        FOLDERS[:] = [Path(config.hydra.sweep.dir).absolute()]


def outcome(run_dir: Path) -> float | None:
    """Return the value that a sweeper optimizes, from a finished run's folder; ``None`` without ``summary.json``.

    It is the last student's score on validation data, or on test data if there are no validation data.
    """
    path = run_dir / "summary.json"
    if not path.is_file():
        return None
    summary = json.loads(path.read_text())
    student, score = summary["student"], summary.get("score", {}).get("name", "accuracy")
    return float((student["validation"] or student["test"]["last"])[score])


def hide_in_logs() -> None:
    """Remove credentials from every later record of ``logging``, before any handler shows it; twice is as once."""
    create = logging.getLogRecordFactory()
    if getattr(create, "__module__", "") == __name__:
        return

    def redacted_record(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = create(*arguments, **options)
        try:
            message = record.getMessage()
        except Exception:  # its format does not fit its arguments; logging reports that
            return record
        if (shown := redacted(message)) != message:
            record.msg, record.args = shown, None
        return record

    logging.setLogRecordFactory(redacted_record)


class Redaction(Callback):
    """Rewrites Hydra's files without credentials when a job starts; Hydra has just written them."""

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Rewrite ``multirun.yaml`` at the first job of a multirun, and each job's files in ``hydra.output_subdir``."""
        hydra = config.hydra
        paths = [Path(hydra.sweep.dir) / "multirun.yaml"] if hydra.mode == RunMode.MULTIRUN else []
        if hydra.output_subdir is not None:
            folder = Path(hydra.runtime.output_dir) / hydra.output_subdir
            paths += [folder / name for name in ("config.yaml", "hydra.yaml", "overrides.yaml")]
        for path in filter(Path.is_file, paths):
            content = OmegaConf.to_container(OmegaConf.load(path))
            if (shown := without_credentials(content)) != content:
                write_text(path, yaml.safe_dump(shown, default_flow_style=False, allow_unicode=True, sort_keys=False))
