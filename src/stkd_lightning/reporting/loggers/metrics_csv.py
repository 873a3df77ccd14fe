"""``metrics.csv``: what a run logs, one row for each time, continued by a run that goes on."""

import csv
import io
import time
from argparse import Namespace
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor

from stkd_lightning.utilities.errors import RunError
from stkd_lightning.utilities.files import write_text

INTERVAL = 10.0  # seconds between two writes, beside those at checkpoints


class MetricsFile(Logger):
    """Writes ``metrics.csv``; the file is whole at any time, its columns are in alphabetical order.

    Args:
        folder: receives the file.

    Attributes:
        rows: all that was logged, as it is written.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self.rows: list[dict[str, str]] = []
        self._written = time.monotonic()

    @property
    def name(self) -> str:
        """The same for all runs: the folder tells them apart."""
        return "metrics"

    @property
    def version(self) -> str:
        """The folder's name."""
        return self.path.parent.name

    @property
    def save_dir(self) -> str:
        """The folder."""
        return str(self.path.parent)

    @rank_zero_only
    def begin(self, rows: int) -> None:
        """Keep the first rows of a file that is there, and forget the others."""
        self.rows = []
        if rows and self.path.is_file():
            with self.path.open(newline="") as file:
                written = list(csv.DictReader(file))[:rows]
            self.rows = [{k: v for k, v in row.items() if v} for row in written]

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the configuration lies beside the file."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float | Tensor], step: int | None = None) -> None:
        """Add a row."""
        values = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}
        place = {} if step is None else {"step": step}
        self.rows.append({name: str(value) for name, value in {**values, **place}.items()})
        if time.monotonic() - self._written > INTERVAL:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Write the file.

        Raises:
            RunError: the disk is full; what was written before is as it was.
        """
        if not self.rows:
            return
        self._written = time.monotonic()
        text = io.StringIO()
        writer = csv.DictWriter(text, sorted({name for row in self.rows for name in row}), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, text.getvalue())
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written ({error.strerror or error})") from error

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the file; after a failure, which is to be told of first, if it can be."""
        with suppress(*([] if status == "success" else [RunError])):
            self.save()
