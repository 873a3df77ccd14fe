"""Cityscapes in its official layout, with images of 4x6 pixels."""

from pathlib import Path

import numpy as np
import pytest

from stkd_lightning.data import CityscapesDataModule
from stkd_lightning.data.arrays import MaskedSplit
from stkd_lightning.data.datasets.cityscapes import CLASSES
from stkd_lightning.utilities.errors import InputError
from tests.data.mask_files import write_image, write_mask

# labels.py of cityscapesScripts: train id of each label id from 0 to 33; 255 is ignored.
TRAIN_IDS = [255, 255, 255, 255, 255, 255, 255, 0, 1, 255, 255, 2, 3, 4, 255, 255, 255, 5, 255, 6, 7, 8, 9, 10, 11, 12,
             13, 14, 15, 255, 255, 16, 17, 18]  # fmt: skip
CITIES = {"train": ("aachen", "bochum"), "val": ("lindau",)}


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "cityscapes"
    for split, cities in CITIES.items():
        for city in cities:
            for i in range(6):
                name = f"{city}_{i:06}_000019"
                write_image(folder / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", 4, 10, seed=i)
                ids = folder / "gtFine" / split / city / f"{name}_gtFine_labelIds.png"
                write_mask(ids, (np.arange(40).reshape(4, 10) + i) % 34)
                write_image(ids.with_name(f"{name}_gtFine_color.png"), 4, 10)
    return folder.parent


def prepared(folder: Path) -> CityscapesDataModule:
    data = CityscapesDataModule(folder, cache_dir=folder.parent / "cache")
    data.prepare_data()
    return data


def test_cityscapes_ids_become_train_ids(cityscapes: Path) -> None:
    data = prepared(cityscapes)
    assert {name: split.samples for name, split in data.arrays.splits.items()} == {"train": 12, "test": 6}
    split = data.arrays.splits["test"]
    assert isinstance(split, MaskedSplit)
    expected = np.array(TRAIN_IDS)[(np.arange(40).reshape(4, 10) + 2) % 34]
    assert np.array_equal(split.mask(2), expected)
    assert len(data.class_names) == 19
    assert (data.class_names[0], data.class_names[10], data.class_names[18]) == ("road", "sky", "bicycle")
    assert [TRAIN_IDS[label_id] for label_id in CLASSES.values()] == list(range(19))


def test_cityscapes_holds_out_of_train(cityscapes: Path) -> None:
    data = prepared(cityscapes)
    assert data.image_counts == {"validation": 1, "test": 6}


def test_cityscapes_files_without_partner(cityscapes: Path) -> None:
    (cityscapes / "cityscapes/gtFine/train/bochum/bochum_000003_000019_gtFine_labelIds.png").unlink()
    words = r"^image without mask: .*/bochum_000003_000019_leftImg8bit.png; NAME_leftImg8bit.png needs .*NAME_gtFine_l"
    with pytest.raises(InputError, match=words):
        prepared(cityscapes)
    for path in (cityscapes / "cityscapes/leftImg8bit/train").glob("*/*"):
        path.unlink()
    with pytest.raises(InputError, match=r"leftImg8bit/train: contains no CITY/\*_leftImg8bit.png; get them from"):
        prepared(cityscapes)


def test_cityscapes_missing_folder_says_its_source(cityscapes: Path) -> None:
    (cityscapes / "cityscapes/gtFine/val").rename(cityscapes / "val")
    with pytest.raises(InputError, match=r"gtFine/val is missing; unpack the archives of .*gtFine_trainvaltest.zip"):
        prepared(cityscapes)


def test_cityscapes_of_other_ids_is_refused(cityscapes: Path) -> None:
    path = cityscapes / "cityscapes/gtFine/val/lindau/lindau_000001_000019_gtFine_labelIds.png"
    write_mask(path, np.full((4, 10), 40))
    with pytest.raises(InputError, match=r"value 40 in 40 of 40 pixels, .*; use the files \*_gtFine_labelIds.png of"):
        prepared(cityscapes)
