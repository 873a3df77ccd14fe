"""Where a sweep goes, known to the process that runs it though its jobs may run in others."""

import json
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

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
    student = json.loads(path.read_text())["student"]
    return float((student["validation"] or student["test"]["last"])["accuracy"])
