"""A small segmentation data set: coloured squares on noise, on images of equal or unequal sides."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from stkd_lightning.data import MaskDataModule, RawData, RawMasks

CLASSES = ["ground", "red square", "blue square"]
Sample = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def samples(sizes: NDArray[np.int64], seed: int) -> Iterator[Sample]:
    """Yield images with a red and a blue square on gray noise; a stripe at the top has no class."""
    random = np.random.default_rng(seed)
    for height, width in sizes.tolist():
        image = random.integers(60, 120, (3, height, width)).astype(np.uint8)
        mask = np.zeros((height, width), np.uint8)
        for label, channel in ((1, 0), (2, 2)):
            top, left = random.integers(1, height - 6), random.integers(0, width - 6)
            image[channel, top : top + 6, left : left + 6] += 90
            mask[top : top + 6, left : left + 6] = label
        mask[0] = 255
        yield image, mask


class SquaresDataModule(MaskDataModule):
    """24 training, 8 validation and 8 test images of 16x24, or of unequal sides."""

    name = "squares"

    def __init__(self, data_dir: str | Path = "data", *, unequal: bool = False, **options: Any) -> None:
        super().__init__(data_dir, **options)
        self.unequal = unequal

    def options(self) -> dict[str, object]:
        return super().options() | {"unequal": self.unequal}

    def locate(self) -> Path:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        return self.data_dir

    def stamps(self, folder: Path) -> list[Path]:
        return []

    def read(self, folder: Path) -> RawData:
        def split(count: int, seed: int) -> RawMasks:
            sizes = np.tile(np.array([[16, 24]], dtype=np.int64), (count, 1))
            if self.unequal:
                sizes[::2] = (20, 18)
                sizes[-1] = (13, 31)
            return RawMasks(sizes, samples(sizes, seed))

        return RawData({"train": split(24, 0), "val": split(8, 1), "test": split(8, 2)}, CLASSES)


class SquaresNetwork(nn.Module):
    """Two convolutions; keeps the size of the image."""

    def __init__(self, width: int, num_classes: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.second = nn.Conv2d(width, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.second(self.first(images).relu())
