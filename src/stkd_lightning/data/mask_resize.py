"""Resize images and their masks once, while they are prepared."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stkd_lightning.data.arrays import RawMasks

Sample = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def resized(split: RawMasks, factor: float) -> RawMasks:
    """Return a split whose images are resized bicubically and whose masks take the nearest pixel.

    Args:
        split: as it is read.
        factor: of height and width, in (0, 1]; a side has a pixel at least.
    """
    sizes = np.maximum(np.rint(split.sizes * factor), 1).astype(np.int64)
    return split._replace(sizes=sizes, samples=_samples(split, sizes))


def _samples(split: RawMasks, sizes: NDArray[np.int64]) -> Iterator[Sample]:
    for (image, mask), (height, width) in zip(split.samples, sizes.tolist(), strict=True):
        size = (width, height)
        planes = [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC)) for plane in image]
        yield np.stack(planes), np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
