"""``metrics.csv``: the logged figures of a run, which a resumed run continues."""

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

INTERVAL = 10.0  # seconds between two writes; checkpoints write in addition


class MetricsFile(Logger):
    """Logger for ``metrics.csv``, with columns in alphabetical order; every write replaces the file atomically.

    Args:
        folder: folder of the file.

    Attributes:
        rows: rows of the file, without empty cells.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self.rows: list[dict[str, str]] = []
        self._written = time.monotonic()

    @property
    def name(self) -> str:
        """The constant ``metrics``: the folder distinguishes the runs."""
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
        """Keep the given number of rows of an existing file, and drop the others."""
        self.rows = []
        if rows and self.path.is_file():
            with self.path.open(newline="") as file:
                written = list(csv.DictReader(file))[:rows]
            self.rows = [{k: v for k, v in row.items() if v} for row in written]

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the configuration is in a file of the same folder."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float | Tensor], step: int | None = None) -> None:
        """Add a row."""
        values = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}
        position = {} if step is None else {"step": step}
        self.rows.append({name: str(value) for name, value in {**values, **position}.items()})
        if time.monotonic() - self._written > INTERVAL:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Write the file.

        Raises:
            RunError: the file cannot be written, for example because the disk is full; the old file stays unchanged.
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
        """Write the file; after a failed run, ignore errors, so that they do not hide its error."""
        with suppress(*([] if status == "success" else [RunError])):
            self.save()
