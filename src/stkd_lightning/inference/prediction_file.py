"""Write predictions to a file row by row; the file appears complete or not at all."""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TextIO

from stkd_lightning.inference.predict import Prediction
from stkd_lightning.inference.row_file import row_file
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.text import csv_cell

Write = Callable[[Path, Prediction | InputError], None]


def prediction_file(path: Path | None, top: int) -> AbstractContextManager[Write]:
    """Return a context whose function writes a row: an image, and its prediction or the error of reading it.

    Args:
        path: ``.json``: a list of objects; otherwise CSV with a header, in which a name that a spreadsheet would
            compute begins with an apostrophe; ``None``: nothing is written.
        top: number of classes of a prediction.
    """
    return row_file(path, partial(_csv, top=top), partial(_json, top=top))


@contextmanager
def _csv(file: TextIO, top: int) -> Iterator[Write]:
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["image", "error", *(f"{kind}_{i + 1}" for i in range(top) for kind in ("class", "probability"))])

    def write(image: Path, result: Prediction | InputError) -> None:
        if isinstance(result, InputError):
            rows.writerow([csv_cell(image), csv_cell(result), *[""] * (2 * top)])
        else:
            pairs = zip(result.classes, result.probabilities, strict=True)
            rows.writerow([csv_cell(image), "", *(cell for name, p in pairs for cell in (csv_cell(name), f"{p:.6f}"))])

    yield write


@contextmanager
def _json(file: TextIO, top: int) -> Iterator[Write]:
    separator = "[\n"

    def write(image: Path, result: Prediction | InputError) -> None:
        nonlocal separator
        row: dict[str, object] = {"image": str(image)}
        if isinstance(result, InputError):
            row["error"] = str(result)
        else:
            pairs = zip(result.classes, result.probabilities, strict=True)
            row["classes"] = [{"name": name, "probability": round(p, 6)} for name, p in pairs]
        file.write(separator + json.dumps(row))
        separator = ",\n"

    yield write
    file.write("\n]\n" if separator != "[\n" else "[]\n")
