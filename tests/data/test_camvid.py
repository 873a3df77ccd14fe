"""CamVid in the SegNet tutorial's layout: real frames where they are, and small ones with mistakes."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stkd_lightning.data import CamVidDataModule
from stkd_lightning.data.arrays import MaskedSplit
from stkd_lightning.data.datasets.camvid_frames import listed_frames
from stkd_lightning.data.masks import read_image, read_mask
from stkd_lightning.utilities.errors import InputError
from tests.data.mask_files import write_image, write_mask

FRAMES = {
    "train": ("0001TP_1", "0001TP_2", "0016E5_1"),
    "val": ("0016E5_2",),
    "test": ("0001TP_3", "Seq05VD_1", "Seq05VD_2"),
}

DUSK = {"sequences": ["0001TP"], "proximity": ["Seq05VD"]}


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    """A folder that holds a CamVid of 7 frames."""
    folder = tmp_path / "data" / "CamVid"
    for split, names in FRAMES.items():
        lines = []
        for name in names:
            write_image(folder / split / f"{name}.png", 6, 8)
            write_mask(folder / f"{split}annot" / f"{name}.png", np.arange(48).reshape(6, 8) % 12)
            lines.append(f"/SegNet/CamVid/{split}/{name}.png /SegNet/CamVid/{split}annot/{name}.png\n")
        (folder / f"{split}.txt").write_text("".join(lines))
    return folder.parent


def made(folder: Path, **options: Any) -> CamVidDataModule:
    return CamVidDataModule(folder, cache_dir=folder.parent / "cache", **options)


def split_of(data: CamVidDataModule, name: str) -> MaskedSplit:
    split = data.arrays.splits[name]
    assert isinstance(split, MaskedSplit)
    return split


def counts(data: CamVidDataModule) -> dict[str, int]:
    return {name: split.samples for name, split in data.arrays.splits.items()}


def test_camvid_frames_are_those_of_the_lists(camvid: Path) -> None:
    data = made(camvid)
    assert counts(data) == {"train": 3, "val": 1, "test": 3}
    assert data.class_names[3] == "road"
    assert len(data.class_names) == 11
    split = split_of(data, "test")
    for i, name in enumerate(FRAMES["test"]):
        assert np.array_equal(split.image(i), read_image(camvid / "CamVid" / "test" / f"{name}.png"))
        mask = read_mask(camvid / "CamVid" / "testannot" / f"{name}.png")
        assert np.array_equal(split.mask(i), np.where(mask == 11, 255, mask))


def test_camvid_sequences_select_every_split(camvid: Path) -> None:
    dusk = made(camvid, sequences=["0001TP"])
    assert counts(dusk) == {"train": 2, "test": 1}
    assert not dusk.has_validation
    day = made(camvid, sequences=["0016E5"], test_sequences=["Seq05VD"])
    assert counts(day) == {"train": 1, "val": 1, "test": 2}
    assert (
        made(camvid, sequences=[16e5], test_sequences=["Seq05VD"]).arrays.digest == day.arrays.digest
    )  # as YAML reads


def test_camvid_proximity_frames_have_no_labels(camvid: Path) -> None:
    data = made(camvid, sequences=["0001TP"], proximity=["Seq05VD", "0016E5"])
    assert counts(data) == {"train": 6, "test": 1}
    split = split_of(data, "train")
    assert [bool((split.mask(i) == 255).all()) for i in range(6)] == [False, False, True, True, True, True]
    folder = camvid / "CamVid"
    frames = ["train/0016E5_1", "val/0016E5_2", "test/Seq05VD_1", "test/Seq05VD_2"]
    for i, name in enumerate(frames, 2):
        assert np.array_equal(split.image(i), read_image(folder / f"{name}.png"))
    for mask in folder.glob("testannot/Seq05VD*"):
        mask.unlink()  # not needed
    assert counts(made(camvid, sequences=["0001TP"], proximity=["Seq05VD", "0016E5"])) == {"train": 6, "test": 1}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"sequences": ["0001TPP"]},
            ".sequences '0001TPP': unknown; did you mean 0001TP? all: 0001TP, 0016E5, Seq05VD",
        ),
        ({"proximity": ["x"]}, ".proximity 'x': unknown; all: "),
        ({"sequences": "0001TP"}, ".sequences=0001TP: must be a list, such as [0001TP]"),
        (
            {"sequences": ["Seq05VD"]},
            " camvid: no train frame in sequence Seq05VD; set dataset.sequences to some of 0001TP, 0016E5",
        ),
        (
            {"sequences": ["0016E5"]},
            " camvid: no test frame in sequence 0016E5; set dataset.test_sequences to some of 0001TP, Seq05VD",
        ),
        (
            {"proximity": ["Seq05VD"]},
            ".proximity: Seq05VD: also trained with labels or tested; "
            "set dataset.sequences and dataset.test_sequences to some of 0001TP, 0016E5",
        ),
        ({**DUSK, "test_sequences": ["Seq05VD"]}, ".proximity: Seq05VD: also trained with labels or tested"),
        ({**DUSK, "validation_fraction": 0.1}, ".validation_fraction=0.1: would also draw frames of dataset.proximity"),
        ({**DUSK, "train_images": 1}, ".train_images=1: would also draw frames of dataset.proximity"),
    ],
)
def test_camvid_wrong_sequences_are_named(options: dict[str, Any], words: str, camvid: Path) -> None:
    with pytest.raises(InputError) as caught:
        made(camvid, **options).prepare_data()
    assert str(caught.value).startswith(f"dataset{words}")


def test_camvid_missing_files_are_named(camvid: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"camvid: .*nowhere/CamVid is missing; .*github.com/alexgkendall/SegNet-Tut"):
        made(tmp_path / "nowhere").prepare_data()
    for name in ("trainannot/0001TP_2.png", "train/0016E5_1.png"):
        (camvid / "CamVid" / name).unlink()
    with pytest.raises(InputError, match=r"^missing: .*trainannot/0001TP_2.png, 0016E5_1.png; copy CamVid again from"):
        made(camvid).prepare_data()
    (camvid / "CamVid" / "val.txt").unlink()
    with pytest.raises(InputError, match=r"CamVid/val.txt: cannot be read \(No such file .*\); copy CamVid again"):
        made(camvid).prepare_data()


def test_camvid_of_other_values_is_refused(camvid: Path) -> None:
    write_mask(camvid / "CamVid" / "valannot" / "0016E5_2.png", np.full((6, 8), 12))
    with pytest.raises(
        InputError, match=r"valannot/0016E5_2.png: value 12 in .* classes are 0 to 10 and ignored is 11"
    ):
        made(camvid).prepare_data()


@pytest.fixture
def real_camvid(real_data: Path) -> Path:
    if not (real_data / "CamVid").is_dir():
        pytest.skip("CamVid is not here; STKD_DATA names the folder that holds it")
    return real_data


def test_real_camvid_has_the_official_frames(real_camvid: Path) -> None:
    data = CamVidDataModule(real_camvid)
    assert counts(data) == {"train": 367, "val": 101, "test": 233}
    pixels = [np.bincount(split_of(data, name).labels.numpy(), minlength=256) for name in ("train", "val", "test")]
    assert pixels[0][:11].tolist() == [
        2655759, 3682975, 156038, 5040098, 710515, 1539084, 185523, 178727, 929651, 101362, 46192
    ]  # fmt: skip
    assert [int(count[255]) for count in pixels] == [628476, 74417, 388377]
    assert all(count[11:255].sum() == 0 for count in pixels)
    mask = split_of(data, "train").mask(0)  # 0001TP_006690
    assert np.bincount(mask.ravel(), minlength=256)[[*range(11), 255]].tolist() == [
        5897, 16134, 484, 4050, 2978, 583, 633, 0, 10230, 181, 0, 2030
    ]  # fmt: skip


def test_real_camvid_has_the_known_sequences(real_camvid: Path) -> None:
    frames = listed_frames(real_camvid / "CamVid", "")
    assert Counter((frame.split, frame.sequence) for frame in frames) == {
        ("test", "0001TP"): 62, ("test", "Seq05VD"): 171, ("train", "0001TP"): 62, ("train", "0006R0"): 101,
        ("train", "0016E5"): 204, ("val", "0016E5"): 101,
    }  # fmt: skip
    data = CamVidDataModule(real_camvid, sequences=["0001TP"], proximity=["Seq05VD"])
    assert counts(data) == {"train": 62 + 171, "test": 62}
