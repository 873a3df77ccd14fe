"""Predictions as a file, row by row, that is whole or not there."""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from stkd_lightning.inference.predict import Prediction
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.files import atomic_file

Write = Callable[[Path, Prediction | InputError], None]


@contextmanager
def prediction_file(path: Path | None, top: int) -> Iterator[Write]:
    """Give what writes a row: of an image, and what it was taken for or why it could not be read.

    Args:
        path: ``.json``: a list of objects; else CSV with a header; ``None``: nothing is written.
        top: classes of a prediction.
    """
    if path is None:
        yield lambda image, found: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = _json if path.suffix == ".json" else _csv
    with (
        atomic_file(path) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        rows(file, top) as write,
    ):
        yield write


@contextmanager
def _csv(file: TextIO, top: int) -> Iterator[Write]:
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["image", "error", *(f"{kind}_{i + 1}" for i in range(top) for kind in ("class", "probability"))])

    def write(image: Path, found: Prediction | InputError) -> None:
        if isinstance(found, InputError):
            rows.writerow([image, found, *[""] * (2 * top)])
        else:
            pairs = zip(found.classes, found.probabilities, strict=True)
            rows.writerow([image, "", *(cell for name, p in pairs for cell in (name, f"{p:.6f}"))])

    yield write


@contextmanager
def _json(file: TextIO, top: int) -> Iterator[Write]:
    before = "[\n"

    def write(image: Path, found: Prediction | InputError) -> None:
        nonlocal before
        row: dict[str, object] = {"image": str(image)}
        if isinstance(found, InputError):
            row["error"] = str(found)
        else:
            pairs = zip(found.classes, found.probabilities, strict=True)
            row["classes"] = [{"name": name, "probability": round(p, 6)} for name, p in pairs]
        file.write(before + json.dumps(row))
        before = ",\n"

    yield write
    file.write("\n]\n" if before != "[\n" else "[]\n")
