"""The end of a multirun: one table of its runs, kept up to date beside them."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from stkd_lightning.files import write_json, write_text


class Comparison(Callback):
    """Writes ``comparison.md`` and ``comparison.json`` after each job of a multirun, and prints the table at its end.

    Args:
        reference: the method to which the others are compared.
    """

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self.start = time.time() - 1  # a folder may hold older runs; clocks of files are coarse

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Bring the files up to date."""
        if config.hydra.mode == RunMode.MULTIRUN:
            self._compare(config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table."""
        from stkd_lightning.reporting.comparison import table
        from stkd_lightning.reporting.console import say

        if rows := self._compare(config):
            say(table(rows, self.reference))
            say(f"{config.hydra.sweep.dir}: comparison.md, comparison.json, and a folder for each run")

    def _compare(self, config: DictConfig) -> list[Any]:
        from stkd_lightning.reporting.comparison import compare, markdown

        folder = Path(config.hydra.sweep.dir)
        since = 0.0 if config.get("resume") == "auto" else self.start  # what was finished before belongs to it
        files = [p for p in folder.glob("*/summary.json") if p.stat().st_mtime >= since]
        files.sort(key=lambda path: (len(path.parent.name), path.parent.name))
        rows = compare([json.loads(path.read_text()) for path in files], self.reference)
        if rows:
            write_json(folder / "comparison.json", {"reference": self.reference, "rows": [asdict(row) for row in rows]})
            write_text(folder / "comparison.md", markdown(rows, self.reference))
        return rows
