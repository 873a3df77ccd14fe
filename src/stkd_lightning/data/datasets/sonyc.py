"""SONYC Urban Sound Tagging, the data of DCASE 2019 task 5: Cartwright et al. 2019 (doi:10.5281/zenodo.3338310)."""

import csv
import re
from collections import defaultdict
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stkd_lightning.data.arrays import RawData
from stkd_lightning.data.clip_module import ClipDataModule
from stkd_lightning.data.clip_reading import read_clips
from stkd_lightning.data.text_file import read_text
from stkd_lightning.tasks.tagging_metrics import UNKNOWN
from stkd_lightning.utilities.errors import InputError, unknown
from stkd_lightning.utilities.text import first_and_more

TABLES = ("annotations.csv", "annotations-dev.csv")
LEVELS = ("coarse", "fine")
COARSE, FINE = re.compile(r"([0-9])_(.+)_presence"), re.compile(r"([0-9])-([0-9X])_(.+)_presence")
EXPERT = "0"  # the annotator who stands for the experts of SONYC
SPLITS = {"train": "train", "test": "validate"}  # the test set of the challenge has no public labels in 2019's archive

Row = Mapping[str, str]


class SONYCDataModule(ClipDataModule):
    """Ten seconds of street noise with 8 coarse or 23 fine tags.

    A tag of a training clip is present if annotator 0 says so, or, where annotator 0 did not listen, if any annotator
    does, as in the challenge's baseline. The official ``validate`` clips are the test set, with annotator 0 alone;
    validation clips are held out of ``train``, so they are of sensors that also train. If an annotation says that a
    sound of a group is of an unknown kind, the fine tags of the group are unknown: they are left out of losses and
    metrics.

    Args:
        data_dir: folder that holds ``sonyc-ust`` with ``annotations.csv`` and the sound files in any folders below.
        level: ``coarse`` or ``fine``.
        options: those of ``ClipDataModule``.

    Raises:
        InputError: an unknown level, a missing table or clip, or a damaged clip.
    """

    name = "sonyc"

    def __init__(self, data_dir: str | Path = "data", *, level: str = "coarse", **options: Any) -> None:
        super().__init__(data_dir, **options)
        if level not in LEVELS:
            raise unknown("dataset.level", str(level), LEVELS)
        self.level = level

    def options(self) -> dict[str, object]:
        """Return the level of the tags, and the rate."""
        return super().options() | {"level": self.level}

    def locate(self) -> Path:
        """Return the folder of the table.

        Raises:
            InputError: there is none.
        """
        folder = self.data_dir / "sonyc-ust"
        if not any((folder / table).is_file() for table in TABLES):
            raise InputError(
                f"dataset sonyc: {folder / TABLES[0]} is missing; unpack the archives of "
                "doi.org/10.5281/zenodo.3338310 there"
            )
        return folder

    def stamps(self, folder: Path) -> list[Path]:
        """Return the table and all sound files."""
        return [_table(folder), *sorted(folder.rglob("*.wav"))]

    def read(self, folder: Path) -> RawData:
        """Read the annotations and the clips."""
        table = _table(folder)
        reader = csv.DictReader(StringIO(read_text(table, "it is the challenge's table of annotations")))
        by_file: dict[tuple[str, str], list[Row]] = defaultdict(list)
        try:
            columns = _columns(list(reader.fieldnames or ()), self.level, table)
            for row in reader:
                by_file[row["split"], row["audio_filename"]].append(row)
        except csv.Error as error:
            raise InputError(f"{table}, line {reader.line_num}: {error}") from error
        places = {path.name: path for path in folder.rglob("*.wav")}
        splits = {}
        for split, official in SPLITS.items():
            names = sorted(name for part, name in by_file if part == official)
            if split == "test":
                names = [n for n in names if any(r["annotator_id"] == EXPERT for r in by_file[official, n])]
            if missing := [name for name in names if name not in places]:
                raise InputError(f"{table}: {first_and_more(missing)} not found below {folder}")
            if not names:
                raise InputError(f"{table}: names no clip of split {official}" + " by annotator 0" * (split == "test"))
            labels = np.stack([_labels(by_file[official, name], columns) for name in names])
            paths = [places[name] for name in names]
            splits[split] = read_clips(paths, labels.astype(np.uint8), self.sample_rate, f"{official} clips")
        return RawData(splits, [name for name, _, _ in columns], sample_rate=self.sample_rate)


def _table(folder: Path) -> Path:
    return next(folder / table for table in TABLES if (folder / table).is_file())


def _columns(names: list[str], level: str, table: Path) -> list[tuple[str, str, str | None]]:
    """Return name, column, and column of the group's unknown kind of each tag, in the order of the taxonomy."""
    found: list[tuple[str, str, str | None]]
    if level == "coarse":
        found = [(match[2], name, None) for name in sorted(names) if (match := COARSE.fullmatch(name))]
    else:
        fine = {name: match for name in sorted(names) if (match := FINE.fullmatch(name))}
        other = {match[1]: name for name, match in fine.items() if match[2] == "X"}
        found = [(m[3], name, other.get(m[1])) for name, m in fine.items() if m[2] != "X"]
    if not found or not {"split", "audio_filename", "annotator_id"} <= set(names):
        raise InputError(f"{table}: is not the challenge's table: no column of {level} tags, such as 1_engine_presence")
    return found


def _labels(rows: list[Row], columns: list[tuple[str, str, str | None]]) -> NDArray[np.uint8]:
    """Return the tags of a clip: 1, 0, or 255 in a group of which a sound of unknown kind is present."""
    decisive = [row for row in rows if row["annotator_id"] == EXPERT] or rows

    def present(column: str) -> bool:
        return any(row[column] == "1" for row in decisive)

    return np.array(
        [UNKNOWN if other and present(other) else int(present(column)) for _, column, other in columns], dtype=np.uint8
    )
