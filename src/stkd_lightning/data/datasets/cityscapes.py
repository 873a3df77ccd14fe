"""Cityscapes: Cordts et al. 2016 (arXiv:1604.01685), street scenes of 50 cities with fine annotations."""

from pathlib import Path

from stkd_lightning.data.arrays import RawData
from stkd_lightning.data.image_files import images_below
from stkd_lightning.data.mask_module import MaskDataModule
from stkd_lightning.data.mask_pairs import Pair, pair_up, read_pairs
from stkd_lightning.data.mask_values import MaskValues
from stkd_lightning.tasks.segmentation import IGNORED
from stkd_lightning.utilities.errors import InputError

SOURCE = "https://www.cityscapes-dataset.com (leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip)"
# The classes that the benchmark scores, in the order of their train ids, and their label ids: labels.py of
# https://github.com/mcordts/cityscapesScripts.
CLASSES = {
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
    "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26, "truck": 27,
    "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
}  # fmt: skip
LABEL_IDS = 34  # 0 to 33
IMAGE, MASK = "_leftImg8bit", "_gtFine_labelIds"  # ends of the names


class CityscapesDataModule(MaskDataModule):
    """Street scenes at 2048x1024, 19 classes, 2,975 images for training; the 500 images of ``val`` are the test set.

    The labels of the official test set are not public. Validation images are held out of the training images. The
    prepared arrays take 27 GiB.

    Args:
        data_dir: folder that holds ``cityscapes``, with ``leftImg8bit`` and ``gtFine``.
        options: those of ``MaskDataModule``.

    Raises:
        InputError: while preparing, a missing folder or file, or a mask that is not of label ids.
    """

    name = "cityscapes"

    def locate(self) -> Path:
        """Return the folder ``cityscapes``; refuse it if a split is missing."""
        folder = self.data_dir / "cityscapes"
        for part in _folders(folder):
            if not part.is_dir():
                raise InputError(f"dataset cityscapes: {part} is missing; unpack the archives of {SOURCE} in {folder}")
        return folder

    def stamps(self, folder: Path) -> list[Path]:
        """Return the folders of the cities, whose times change when files are added or deleted."""
        return sorted(city for part in _folders(folder) for city in (part, *part.glob("*")) if city.is_dir())

    def read(self, folder: Path) -> RawData:
        """Read ``train`` and, as the test set, ``val``."""
        ids = dict.fromkeys((*range(LABEL_IDS), 255), IGNORED)  # 255 is the license plate, -1 in labels.py
        values = MaskValues(
            ids | {label_id: label for label, label_id in enumerate(CLASSES.values())},
            f"use the files *{MASK}.png of the official archive",
        )
        splits = {}
        for split, part in (("train", "train"), ("test", "val")):
            names = list(CLASSES) if split == "train" else []
            splits[split] = read_pairs(_pairs(folder, part), values, f"Cityscapes {part}", names)
        return RawData(splits, list(CLASSES))


def _folders(folder: Path) -> list[Path]:
    return [folder / kind / split for kind in ("leftImg8bit", "gtFine") for split in ("train", "val")]


def _pairs(folder: Path, split: str) -> list[Pair]:
    """Return the pairs of a split, sorted by city and name.

    Raises:
        InputError: an image without mask, a mask without image, or no image.
    """
    found = {}
    for kind, end in (("leftImg8bit", IMAGE), ("gtFine", MASK)):
        paths = images_below(folder / kind / split).images
        found[kind] = {path.name.removesuffix(f"{end}.png"): path for path in paths if path.name.endswith(f"{end}.png")}
    if not found["leftImg8bit"]:
        raise InputError(f"{folder / 'leftImg8bit' / split}: contains no CITY/*{IMAGE}.png; get them from {SOURCE}")
    return pair_up(
        found["leftImg8bit"], found["gtFine"], f"NAME{IMAGE}.png needs {folder / 'gtFine' / split}/CITY/NAME{MASK}.png"
    )
