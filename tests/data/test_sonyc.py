"""SONYC-UST in the layout of DCASE 2019 task 5, small."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from stkd_lightning.data import SONYCDataModule
from stkd_lightning.data.clip_arrays import ClipSplit
from stkd_lightning.utilities.errors import InputError

COLUMNS = ("1-1_small-engine", "1-X_engine-of-uncertain-size", "2-1_rock-drill", "1_engine", "2_machinery-impact")
# split, file, annotator, then the presences of COLUMNS
ROWS = [
    ("train", "a.wav", "7", "10010"),
    ("train", "a.wav", "9", "00101"),  # any annotator
    ("train", "b.wav", "7", "10010"),
    ("train", "b.wav", "0", "00000"),  # annotator 0 decides
    ("train", "c.wav", "7", "01010"),  # an engine of unknown kind
    ("validate", "d.wav", "0", "00101"),
    ("validate", "d.wav", "8", "10010"),
    ("validate", "e.wav", "8", "10010"),  # not heard by annotator 0: no test clip
]


@pytest.fixture
def sonyc(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "sonyc-ust"
    head = ["split", "sensor_id", "audio_filename", "annotator_id", *(f"{name}_presence" for name in COLUMNS)]
    lines = [",".join([*head, "1-1_small-engine_proximity"])]
    for split, name, annotator, bits in ROWS:
        (folder / split).mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / split / name, np.full(800, 0.1, np.float32), 8000)
        lines.append(",".join([split, "1", name, annotator, *bits, "near"]))
    (folder / "annotations.csv").write_text("\n".join(lines) + "\n")
    return folder.parent


def labels(folder: Path, level: str) -> tuple[tuple[str, ...], dict[str, list[list[int]]]]:
    data = SONYCDataModule(folder, level=level, sample_rate=8000, cache_dir=folder.parent / "cache", batch_size=2)
    splits = data.arrays.splits
    assert all(isinstance(split, ClipSplit) for split in splits.values())
    return data.class_names, {name: split.labels.tolist() for name, split in splits.items()}


def test_coarse_tags_are_aggregated_as_in_the_baseline(sonyc: Path) -> None:
    names, found = labels(sonyc, "coarse")
    assert names == ("engine", "machinery-impact")
    assert found == {"train": [[1, 1], [0, 0], [1, 0]], "test": [[0, 1]]}


def test_unknown_kind_masks_the_fine_tags_of_its_group(sonyc: Path) -> None:
    names, found = labels(sonyc, "fine")
    assert names == ("small-engine", "rock-drill")
    assert found == {"train": [[1, 1], [0, 0], [255, 0]], "test": [[0, 1]]}


def test_missing_files_are_named(sonyc: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="annotations.csv is missing; unpack the archives of doi.org"):
        SONYCDataModule(tmp_path / "other").prepare_data()
    (sonyc / "sonyc-ust" / "train" / "b.wav").unlink()
    with pytest.raises(InputError, match="annotations.csv: b.wav not found below"):
        labels(sonyc, "coarse")
    with pytest.raises(InputError, match="dataset.level 'corse': unknown; did you mean coarse"):
        SONYCDataModule(sonyc, level="corse")


def test_a_table_without_test_clips_is_named(sonyc: Path) -> None:
    path = sonyc / "sonyc-ust" / "annotations.csv"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if ",d.wav," not in line))
    with pytest.raises(InputError, match="annotations.csv: names no clip of split validate by annotator 0"):
        labels(sonyc, "coarse")
