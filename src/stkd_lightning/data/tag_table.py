"""A table of files with any number of tags each, as a CSV file with the columns ``file``, ``tags`` and ``split``."""

import csv
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stkd_lightning.data.text_file import read_lines, read_text
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import InputError, suggestion, unknown

COLUMNS = ("file", "tags", "split")
SPLITS = ("train", "val", "test")
FORM = "needs the columns file,tags,split, with tags separated by ';', for example: clips/a.wav,dog;siren,train"


@dataclass(frozen=True)
class TagTable:
    """Files of a user's data with their tags.

    Attributes:
        files: by split, in the order of the table.
        labels: ``(N, C)`` uint8 of each split: 1 for a tag that is present.
        class_names: of the tags; those of the training files, sorted, or as they were given.
    """

    files: dict[str, list[Path]]
    labels: dict[str, NDArray[np.uint8]]
    class_names: list[str]


@dataclass(frozen=True)
class TableFiles:
    """The names of the files that describe a user's tagged data, in its folder.

    Attributes:
        labels: of the table.
        classes: of a text file with a tag on each line; ``None``: the tags of the training files, sorted.
    """

    labels: str
    classes: str | None

    def __post_init__(self) -> None:
        validation.path("dataset.labels", self.labels)
        if self.classes is not None:
            validation.path("dataset.classes", self.classes)

    def check(self, folder: Path, name: str) -> None:
        """Refuse a folder without the table.

        Raises:
            InputError: names the table.
        """
        if not (folder / self.labels).is_file():
            raise InputError(
                f"dataset {name}: {folder / self.labels} is missing; it {FORM} (another name: dataset.labels=NAME)"
            )

    def read(self, folder: Path) -> TagTable:
        """Read the table; see ``read_tag_table``."""
        lines = None if self.classes is None else read_lines(folder / self.classes, "it has a tag on each line")
        return read_tag_table(folder / self.labels, lines and [line.strip() for line in lines])

    def paths(self, folder: Path) -> list[Path]:
        """Return the table, the classes and all files that it names."""
        named = [folder / name for name in (self.labels, self.classes) if name]
        return named + [path for paths in self.read(folder).files.values() for path in paths]


@dataclass(frozen=True)
class _Row:
    line: int
    file: str
    tags: tuple[str, ...]
    split: str


def read_tag_table(path: Path, class_names: Sequence[str] | None = None) -> TagTable:
    """Read a table; the files are relative to its folder.

    Args:
        path: of the CSV file, UTF-8 with a header. A file without a tag has an empty entry.
        class_names: the tags; ``None``: those of the training files.

    Raises:
        InputError: a table of another form, an unknown tag or split, a missing file, or a file in two rows; names the
            line.
    """
    rows = _rows(path)
    if class_names is None:
        class_names = sorted({tag for row in rows if row.split == "train" for tag in row.tags})
    if not class_names:
        raise InputError(f"{path}: no training file has a tag; {FORM}")
    if twice := [name for name, count in Counter(class_names).items() if count > 1]:
        raise InputError(f"dataset.classes: tag {twice[0]!r} stands there twice")
    position = {name: i for i, name in enumerate(class_names)}
    files: dict[str, list[Path]] = {split: [] for split in SPLITS}
    labels: dict[str, list[NDArray[np.uint8]]] = {split: [] for split in SPLITS}
    for row in rows:
        present = np.zeros(len(position), dtype=np.uint8)
        for tag in row.tags:
            if tag not in position:
                raise InputError(f"{path}, line {row.line}: tag {tag!r}: unknown; {suggestion(tag, position)}")
            present[position[tag]] = 1
        files[row.split].append(path.parent / row.file)
        labels[row.split].append(present)
    for split in ("train", "test"):
        if not files[split]:
            raise InputError(f"{path}: no file of split {split}; {FORM}")
    used = [split for split in SPLITS if files[split]]
    return TagTable({s: files[s] for s in used}, {s: np.stack(labels[s]) for s in used}, list(class_names))


def _rows(path: Path) -> list[_Row]:
    reader = csv.DictReader(StringIO(read_text(path, FORM)), skipinitialspace=True)
    try:
        names = reader.fieldnames or ()
        if missing := [column for column in COLUMNS if column not in names]:
            raise InputError(f"{path}: no column {missing[0]}; {FORM}")
        rows = [_row(path, reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}; {FORM}") from error
    seen: dict[str, int] = {}
    for row in rows:
        file = os.path.normpath(path.parent / row.file)
        if file in seen:
            raise InputError(f"{path}, line {row.line}: file {row.file} again, as in line {seen[file]}")
        seen[file] = row.line
    return rows


def _row(path: Path, line: int, row: dict[str, str | None]) -> _Row:
    values = {name: (row[name] or "").strip() for name in COLUMNS}
    if values["split"] not in SPLITS:
        raise unknown(f"{path}, line {line}: split", values["split"], SPLITS)
    if not values["file"] or not (path.parent / values["file"]).is_file():
        raise InputError(f"{path}, line {line}: file {values['file']!r}: missing in {path.parent}")
    tags = tuple(tag.strip() for tag in values["tags"].split(";"))
    return _Row(line, values["file"], tuple(tag for tag in tags if tag), values["split"])
