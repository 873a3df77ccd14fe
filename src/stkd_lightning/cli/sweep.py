"""Where a sweep goes, known to the process that runs it though its jobs may run in others."""

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
