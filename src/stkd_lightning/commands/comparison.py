"""Compare the runs of a multirun in one table, updated after each job, and write a report at the end."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from stkd_lightning.utilities.files import write_json, write_text


class Comparison(Callback):
    """Writes ``comparison.md`` and ``comparison.json`` after each job of a multirun, and a report at the end.

    Args:
        reference: method with which the others are compared.
        report: write ``report.html``, ``report.md`` and ``report.csv`` at the end.
    """

    def __init__(self, reference: str, report: bool = True) -> None:
        self.reference, self.report = reference, report
        self.start = time.time() - 1  # the folder may contain older runs; file times are coarse

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Update the files."""
        if config.hydra.mode == RunMode.MULTIRUN:
            self._compare(config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table and write the report; an error is only a warning, as the report can be written later."""
        from stkd_lightning.reporting.comparison import table
        from stkd_lightning.utilities.console import print_rank_zero, warn

        runs, rows = self._compare(config)
        if not runs:
            return
        folder = Path(config.hydra.sweep.dir)
        print_rank_zero(table(rows, self.reference))
        print_rank_zero(f"{folder}: comparison.md, comparison.json, and a folder for each run")
        if not self.report:
            return
        from stkd_lightning.commands.report import FILES, write_report
        from stkd_lightning.utilities.errors import reason

        try:
            # Their classes have just run in this sweep, so they are trusted.
            write_report(runs, folder, self.reference, trust=True, in_time=True)
            print_rank_zero(f"{folder}: {FILES}")
        except Exception as error:  # figures, a network or a disk can raise anything
            retry = f"python -m stkd_lightning.report runs={folder}"
            warn(f"no report ({reason(error)}); retry with: {retry}")

    def _compare(self, config: DictConfig) -> tuple[list[Any], list[Any]]:
        from stkd_lightning.reporting.comparison import compare, markdown
        from stkd_lightning.reporting.run import read_runs

        folder = Path(config.hydra.sweep.dir)
        since = 0.0 if config.get("resume") == "auto" else self.start  # a resumed sweep includes its earlier runs
        files = [p for p in folder.glob("*/summary.json") if p.stat().st_mtime >= since]
        files.sort(key=lambda path: (len(path.parent.name), path.parent.name))
        runs = read_runs(path.parent for path in files).runs
        rows = compare(runs, self.reference)
        if rows:
            write_json(folder / "comparison.json", {"reference": self.reference, "rows": [asdict(row) for row in rows]})
            write_text(folder / "comparison.md", markdown(rows, self.reference))
        return runs, rows
