"""ImageNet's folders and its development kit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from stkd_lightning.data import Augment, ImageNetDataModule
from stkd_lightning.data.picture_split import FileSplit
from stkd_lightning.utilities.errors import InputError

WNIDS = ["n02124075", "n01443537", "n03100240"]  # not sorted, as the numbers of the development kit are not
TEST = [2, 1, 3, 1, 2]  # classes of the validation images, numbers of the development kit


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for number, wnid in enumerate(WNIDS, 1):
        for i in range(4):
            save(tmp_path / "imagenet" / "train" / wnid / f"{wnid}_{i}.JPEG", number, random)
    for position, number in enumerate(TEST, 1):
        save(tmp_path / "imagenet" / "val" / f"ILSVRC2012_val_{position:08}.JPEG", number, random)
    kit = tmp_path / "imagenet" / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{number}\n" for number in TEST))
    rows = [(i, wnid, f"word {i}, other") for i, wnid in enumerate([*WNIDS, "n00001740"], 1)]
    savemat(kit / "meta.mat", {"synsets": np.array(rows, [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")])})
    return tmp_path


def save(path: Path, number: int, random: np.random.Generator) -> None:
    """Write noise around a level that tells the class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = random.integers(0, 20, (50, 70, 3)) + 60 * number
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=95)


def module(folder: Path, **options: Any) -> ImageNetDataModule:
    return ImageNetDataModule(
        folder,
        **{"image_size": 32, "batch_size": 2, "validation_fraction": 0.25, "cache_dir": folder / "cache"} | options,
    )


def classes(data: ImageNetDataModule) -> list[int]:
    """Return the class of each test image, as the development kit numbers them."""
    labels = data.arrays.splits["test"].labels.tolist()
    return [WNIDS.index(data.class_names[label]) + 1 for label in labels]


@pytest.mark.parametrize("storage", ["prepared", "streamed"])
def test_numbered_images_get_the_classes_of_the_kit(imagenet: Path, storage: str) -> None:
    data = module(imagenet, storage=storage)
    assert data.class_names == tuple(sorted(WNIDS))
    assert classes(data) == TEST
    levels = [int(image.float().mean()) // 60 for image in data.arrays.splits["test"].pictures(torch.arange(len(TEST)))]
    assert levels == TEST
    assert data.image_counts == {"validation": 3, "test": 5}


def test_folders_of_classes_need_no_kit(imagenet: Path) -> None:
    root = imagenet / "imagenet"
    for position, number in enumerate(TEST, 1):
        target = root / "val" / WNIDS[number - 1]
        target.mkdir(exist_ok=True)
        name = f"ILSVRC2012_val_{position:08}.JPEG"
        (root / "val" / name).rename(target / name)
    (root / "ILSVRC2012_devkit_t12" / "data" / "meta.mat").unlink()
    assert sorted(classes(module(root))) == sorted(TEST)


def test_large_data_are_streamed(imagenet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stkd_lightning.data.datasets.image_folder.PREPARED", 1000)
    data = module(imagenet, augment=Augment(crop_scale=(0.1, 1.0)))
    assert data.storage == "streamed"
    assert isinstance(data.arrays.splits["train"], FileSplit)
    assert data.evaluation_resize == (37, 37)


def test_an_added_image_is_noticed(imagenet: Path) -> None:
    first = module(imagenet).arrays.digest
    save(imagenet / "imagenet" / "train" / WNIDS[0] / "new.JPEG", 1, np.random.default_rng(1))
    assert module(imagenet).arrays.digest != first


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("train", r"train is missing; get ILSVRC2012_img_train.tar from image-net.org"),
        ("val", r"val is missing; get ILSVRC2012_img_val.tar"),
        ("meta", r"meta.mat: cannot be read .*; unpack ILSVRC2012_devkit_t12.tar.gz beside train and val"),
        ("damaged", r"meta.mat: cannot be read"),
        ("truth", r"ILSVRC2012_validation_ground_truth.txt: names a class that meta.mat has not"),
        ("number", r"ILSVRC2012_val_00000009.JPEG: not one of the 5 validation images"),
        ("class", r"ILSVRC2012_val_00000001.JPEG: is of class n01443537, which train has no folder for"),
    ],
)
def test_a_fault_of_the_layout_is_named(imagenet: Path, change: str, words: str) -> None:
    root = imagenet / "imagenet"
    kit = root / "ILSVRC2012_devkit_t12" / "data"
    if change in ("train", "val"):
        (root / change).rename(root / "elsewhere")
    elif change == "meta":
        (kit / "meta.mat").unlink()
    elif change == "damaged":
        (kit / "meta.mat").write_bytes(b"no matrix")
    elif change == "truth":
        (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("1\nseven\n")
    elif change == "number":
        (root / "val" / "ILSVRC2012_val_00000001.JPEG").rename(root / "val" / "ILSVRC2012_val_00000009.JPEG")
    else:
        (root / "train" / WNIDS[1]).rename(root / "train" / "n09999999")
    with pytest.raises(InputError, match=words):
        module(imagenet).prepare_data()
