"""Canvases of handwritten digits over textures, for a first segmentation without a download.

Digits: ``digits.py``. Textures: the two sample photographs of scikit-learn, ``china.jpg`` and ``flower.jpg``.
"""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stkd_lightning.data.arrays import RawData, RawMasks
from stkd_lightning.data.datasets.digits import TEST_FRACTION
from stkd_lightning.data.holdout import hold_out
from stkd_lightning.data.mask_module import MaskDataModule
from stkd_lightning.utilities import validation

SIDE = 64  # of a canvas
CELLS = 2  # a digit lies in one of 2 x 2 cells, moved by a few pixels
DIGITS = (3, 4)  # digits on a canvas, fewest and most
SIZES = (24, 32)  # side of an enlarged digit
SHIFT = 3  # pixels
INK = 0.2  # a pixel is of a digit where its ink, in [0, 1], is at least this
SHADE = (0.3, 0.5)  # brightness of a texture, so that digits stand out
COLOUR = (160, 255)  # of a digit, in each channel
TRAIN_WIDTH = 0.7  # share of a photograph's width from which the textures of training images are cut
DRAWING = 1  # raised when a change of the code changes the canvases


class DigitCanvasDataModule(MaskDataModule):
    """Canvases of 64x64 with 3 or 4 digits; 11 classes: background and the digits 0 to 9. Never flipped.

    Training and test images share neither a digit nor a texture.

    Args:
        data_dir: not used: digits and textures are part of scikit-learn.
        canvases: number of training images.
        test_canvases: number of test images.
        canvas_seed: seed of all images; it differs from ``seed`` so that runs of several seeds share the images.
        flip: mirror half of the images; false, because a mirrored digit is another character.
        options: those of ``MaskDataModule``.
    """

    name = "digit_canvas"

    def __init__(
        self,
        data_dir: str | Path = "data",
        *,
        canvases: int = 1200,
        test_canvases: int = 300,
        canvas_seed: int = 0,
        flip: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(data_dir, flip=flip, **options)
        self.canvases = {
            "train": validation.whole("dataset.canvases", canvases, minimum=2),
            "test": validation.whole("dataset.test_canvases", test_canvases, minimum=1),
        }
        self.canvas_seed = validation.whole("dataset.canvas_seed", canvas_seed)

    def options(self) -> dict[str, object]:
        """Return what the canvases are drawn from."""
        drawn = {"canvases": self.canvases, "canvas_seed": self.canvas_seed, "drawing": DRAWING}
        return super().options() | drawn | {"scikit-learn": version("scikit-learn")}

    def locate(self) -> Path:
        """Return the folder of the cache; the canvases have no files."""
        return self.cache

    def stamps(self, folder: Path) -> list[Path]:
        """Return an empty list: digits and photographs cannot change."""
        return []

    def read(self, folder: Path) -> RawData:
        """Draw the canvases."""
        splits = {}
        for split, source in _sources().items():
            count = self.canvases[split]
            sizes = np.full((count, 2), SIDE, dtype=np.int64)
            splits[split] = RawMasks(sizes, _canvases(source, count, [self.canvas_seed, split == "test"]))
        return RawData(splits, ["background", *"0123456789"])


class _Source(NamedTuple):
    """Sources from which the canvases of a split are drawn.

    Attributes:
        digits: their ink ``(N, 8, 8)`` float64 in [0, 1].
        classes: the digit of each ``(N,)``.
        photographs: each ``(h, w, 3)`` uint8.
    """

    digits: NDArray[np.float64]
    classes: NDArray[np.int64]
    photographs: list[NDArray[np.uint8]]


def _sources() -> dict[str, _Source]:
    """Return the disjoint sources of ``train`` and ``test``."""
    from sklearn.datasets import load_digits, load_sample_images

    digits, photographs = load_digits(), load_sample_images().images
    train, test = hold_out(digits.target, TEST_FRACTION, seed=0)
    edges = [round(TRAIN_WIDTH * photograph.shape[1]) for photograph in photographs]
    regions = {
        "train": (train, [photograph[:, :edge] for photograph, edge in zip(photographs, edges, strict=True)]),
        "test": (test, [photograph[:, edge:] for photograph, edge in zip(photographs, edges, strict=True)]),
    }
    return {
        split: _Source(digits.images[members] / 16, digits.target[members], parts)
        for split, (members, parts) in regions.items()
    }


def _canvases(source: _Source, count: int, seed: list[int]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield images ``(3, 64, 64)`` and masks ``(64, 64)``, each a function of the seed and its position."""
    for position in range(count):
        yield _canvas(source, np.random.default_rng([*seed, position]))


def _canvas(source: _Source, random: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    photograph = source.photographs[random.integers(len(source.photographs))]
    top, left = (int(random.integers(length - SIDE + 1)) for length in photograph.shape[:2])
    image = photograph[top : top + SIDE, left : left + SIDE] * random.uniform(*SHADE)
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    cells = random.permutation(CELLS**2)[: random.integers(DIGITS[0], DIGITS[1] + 1)]
    for row, column in zip(*divmod(cells, CELLS), strict=True):
        digit, size = random.integers(len(source.digits)), int(random.integers(SIZES[0], SIZES[1] + 1))
        ink = _enlarged(source.digits[digit], size)
        center = (np.array([row, column]) + 0.5) * SIDE / CELLS + random.uniform(-SHIFT, SHIFT, 2)
        upper, left = (int(corner) for corner in np.clip(center - size / 2, 0, SIDE - size).round())
        window = slice(upper, upper + size), slice(left, left + size)
        cover = np.clip(ink * random.uniform(0.8, 1.2), 0, 1)[:, :, None]
        image[window] = image[window] * (1 - cover) + random.uniform(*COLOUR, 3) * cover
        mask[window][ink >= INK] = 1 + source.classes[digit]
    return image.round().astype(np.uint8).transpose(2, 0, 1), mask


def _enlarged(ink: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    """Return a digit ``(size, size)``, interpolated."""
    return np.asarray(Image.fromarray(ink.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC))
