"""Write the tags of files row by row; the file appears complete or not at all."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TextIO

from stkd_lightning.inference.row_file import row_file
from stkd_lightning.inference.tags import TagPrediction
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.text import csv_cell

Write = Callable[[Path, TagPrediction | InputError], None]


def tag_file(path: Path | None, class_names: Sequence[str]) -> AbstractContextManager[Write]:
    """Return a context whose function writes a row: a file, and its tags or the error of reading it.

    Args:
        path: ``.json``: a list of objects, which also hold the frames that were asked for; otherwise CSV with a column
            for each tag; ``None``: nothing is written.
        class_names: of the tags.
    """
    return row_file(path, partial(_csv, class_names=class_names), partial(_json, class_names=class_names))


@contextmanager
def _csv(file: TextIO, class_names: Sequence[str]) -> Iterator[Write]:
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["file", "error", *map(csv_cell, class_names)])

    def write(path: Path, result: TagPrediction | InputError) -> None:
        if isinstance(result, InputError):
            rows.writerow([csv_cell(path), csv_cell(result), *[""] * len(class_names)])
        else:
            rows.writerow([csv_cell(path), "", *(f"{p:.6f}" for p in result.probabilities)])

    yield write


@contextmanager
def _json(file: TextIO, class_names: Sequence[str]) -> Iterator[Write]:
    separator = "[\n"

    def write(path: Path, result: TagPrediction | InputError) -> None:
        nonlocal separator
        row: dict[str, object] = {"file": str(path)}
        if isinstance(result, InputError):
            row["error"] = str(result)
        else:
            row["tags"] = {name: round(float(p), 6) for name, p in zip(class_names, result.probabilities, strict=True)}
            if result.seconds is not None:
                row["seconds"] = round(result.seconds, 3)
            if result.frames is not None:
                over_time = zip(class_names, result.frames.tolist(), strict=True)
                row["frames"] = {name: [round(p, 4) for p in values] for name, values in over_time}
        file.write(separator + json.dumps(row))
        separator = ",\n"

    yield write
    file.write("\n]\n" if separator != "[\n" else "[]\n")
