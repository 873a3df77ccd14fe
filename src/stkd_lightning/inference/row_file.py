"""Write a row for each predicted file; the whole file appears complete or not at all."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TextIO

from stkd_lightning.utilities.files import atomic_file

Rows = Callable[[TextIO], AbstractContextManager[Callable[[Path, Any], None]]]


@contextmanager
def row_file(path: Path | None, csv: Rows, json: Rows) -> Iterator[Callable[[Path, Any], None]]:
    """Yield a function that writes a row: a file, and its prediction or the error that it could not be read.

    Args:
        path: ``.json`` or ``.csv``; ``None``: nothing is written.
        csv: opens the rows of a CSV file.
        json: opens those of a JSON file.
    """
    if path is None:
        yield lambda file, result: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = json if path.suffix == ".json" else csv
    with (
        atomic_file(path) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        rows(file) as write,
    ):
        yield write
