"""Predict the tags of sound files or images with a tagging student."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table
from tqdm import tqdm

from stkd_lightning.inference.tag_file import tag_file
from stkd_lightning.inference.tagging_student import TaggingStudent
from stkd_lightning.inference.tags import TagPrediction, predicted_tags
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError

SHOWN = 10  # rows of the tables
PRESENT = 0.5  # probability from which a tag counts as present


def predict_tags(
    student: TaggingStudent, paths: Sequence[Path], output: Path | None, *, top: int, frames: bool
) -> list[str]:
    """Predict and print the tags of files, and write them to a file.

    Args:
        student: a tagging student.
        paths: of the files.
        output: a .csv or .json file; ``None``: nothing is written.
        top: largest number of tags of a file in the printed table.
        frames: also predict each frame; they are written to a .json file.

    Returns:
        A line for each file that cannot be read.
    """
    first: list[TagPrediction] = []
    broken: list[str] = []
    present, count = np.zeros(len(student.class_names), dtype=int), 0
    results = predicted_tags(student, paths, frames=frames)
    with tag_file(output, student.class_names) as write:
        bar = tqdm(zip(paths, results, strict=True), "predict", len(paths), unit="file", leave=False, disable=None)
        for path, prediction in bar:
            write(path, prediction)
            if isinstance(prediction, InputError):
                broken.append(str(prediction))
                continue
            present += prediction.probabilities >= PRESENT
            count += 1
            if len(first) < SHOWN:
                first.append(prediction)
    print_rank_zero(_first_table(first, student.class_names, count, top))
    print_rank_zero(_tag_table(student.class_names, present, count))
    if output is not None:
        print_rank_zero(f"{output}: {len(paths):,} files")
    return broken


def _first_table(first: Sequence[TagPrediction], names: Sequence[str], total: int, top: int) -> Table:
    table = _table(f"the first {len(first)} of {total:,} files" if total > len(first) else f"{total:,} files")
    table.add_column("file", overflow="fold")
    table.add_column("tags", overflow="fold")
    for prediction in first:
        order = np.argsort(-prediction.probabilities, kind="stable")[:top]
        table.add_row(str(prediction.path), ", ".join(f"{names[c]} {prediction.probabilities[c]:.3f}" for c in order))
    return table


def _tag_table(names: Sequence[str], present: np.ndarray, total: int) -> Table:
    table = _table(f"tags with a probability of {PRESENT} or more")
    table.add_column("tag", overflow="fold")
    table.add_column("files", justify="right")
    for c in np.argsort(-present, kind="stable")[:SHOWN]:
        table.add_row(names[c], f"{present[c]:,} of {total:,}")
    return table


def _table(title: str) -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, title_justify="left")
