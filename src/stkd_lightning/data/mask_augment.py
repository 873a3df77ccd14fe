"""Augmentation of images together with their masks: scale, crop, flip and colour, as one resampling of each image."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stkd_lightning.data.arrays import MaskedSplit
from stkd_lightning.tasks.segmentation import IGNORED
from stkd_lightning.utilities.random import sample_bits

GRAY = (0.299, 0.587, 0.114)  # weights of red, green and blue (ITU-R BT.601)
COLOURS = ("brightness", "contrast", "saturation")


@dataclass(frozen=True)
class Grid:
    """The places in the source images at which the pixels of augmented images are read.

    Attributes:
        rows: ``(B, H, 1)`` float32: row of each output row, in pixels.
        columns: ``(B, 1, W)`` float32: likewise.
        sizes: ``(B, 2)`` height and width of the sources.
        starts: ``(B,)`` position of each source's first pixel in the split.
    """

    rows: Tensor
    columns: Tensor
    sizes: Tensor
    starts: Tensor

    @property
    def inside(self) -> Tensor:
        """True at the pixels ``(B, H, W)`` that a source covers."""
        height, width = self.sizes[:, 0, None, None], self.sizes[:, 1, None, None]
        covered = [(places >= -0.5) & (places < side - 0.5) for places, side in
                   ((self.rows, height), (self.columns, width))]  # fmt: skip
        return covered[0] & covered[1]

    def positions(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the positions ``(B, H, W)`` of whole rows and columns in a source; those outside move to its sides."""
        height, width = self.sizes[:, 0, None, None], self.sizes[:, 1, None, None]
        zero = torch.zeros((), dtype=torch.int64, device=rows.device)
        return torch.minimum(rows.maximum(zero), height - 1) * width + torch.minimum(columns.maximum(zero), width - 1)


@dataclass(frozen=True)
class MaskAugmentation:
    """Scale, crop, mirror and colour an image, and move its mask alike.

    Images are resampled bilinearly and masks by the nearest pixel. Pixels that an image does not cover have the mean
    colour of the data, and no class.

    Attributes:
        size: height and width of the samples.
        mean: of each channel of the data, in units of 1.
        scale: smallest and largest factor of an image's sides; a factor is drawn uniformly.
        flip: mirror half of the images.
        colour: largest change of brightness, contrast and saturation, in [0, 1); factors are drawn from 1 - colour to
            1 + colour.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    scale: tuple[float, float] = (1.0, 1.0)
    flip: bool = True
    colour: float = 0.0

    def draw(self, indices: NDArray[np.int64], *, seed: int, epoch: int) -> tuple[Tensor, ...]:
        """Draw scale, place of the crop in [0, 1] twice, mirrored or not, and colours: ``(N,)`` each.

        A sample's draw is a function of (seed, epoch, index).
        """

        def uniform(purpose: str) -> NDArray[np.float64]:
            return (sample_bits(seed, purpose, epoch, indices) >> np.uint64(11)) * 2.0**-53

        low, high = self.scale
        places = [low + (high - low) * uniform("scale"), uniform("top"), uniform("left")]
        mirrored = (uniform("mirrored") < 0.5) & self.flip
        colours = [1 + self.colour * (2 * uniform(name) - 1) for name in COLOURS] if self.colour else []
        numbers = [torch.from_numpy(values.astype(np.float32)) for values in (*places, *colours)]
        return *numbers[:3], torch.from_numpy(mirrored), *numbers[3:]

    def images(self, split: MaskedSplit, indices: Tensor, draws: tuple[Tensor, ...]) -> Tensor:
        """Return images ``(B, C, H, W)`` float32 in levels of 0 to 255."""
        grid, channels = self._grid(split, indices, draws), len(self.mean)
        rows, columns = grid.rows.floor(), grid.columns.floor()
        down, right = (grid.rows - rows)[:, None], (grid.columns - columns)[:, None]
        first_rows, first_columns = rows.long(), columns.long()
        planes = torch.arange(channels, device=indices.device)[:, None, None] * grid.sizes.prod(1)[:, None, None, None]
        planes = planes + channels * grid.starts[:, None, None, None]  # (B, C, 1, 1)

        def at(row: int, column: int) -> Tensor:
            positions = grid.positions(first_rows + row, first_columns + column)[:, None] + planes
            return split.images.index_select(0, positions.flatten()).view(positions.shape).float()

        upper = torch.lerp(at(0, 0), at(0, 1), right.expand(-1, channels, *self.size))
        lower = torch.lerp(at(1, 0), at(1, 1), right.expand(-1, channels, *self.size))
        images = torch.lerp(upper, lower, down.expand(-1, channels, *self.size))
        if self.colour:
            images = recoloured(images, *draws[4:])
        return torch.where(grid.inside[:, None], images, _levels(self.mean, images.device))

    def labels(self, split: MaskedSplit, indices: Tensor, draws: tuple[Tensor, ...]) -> Tensor:
        """Return masks ``(B, H, W)`` int64."""
        grid = self._grid(split, indices, draws)
        nearest = grid.positions((grid.rows + 0.5).floor().long(), (grid.columns + 0.5).floor().long())
        positions = nearest + grid.starts[:, None, None]
        classes = split.labels.index_select(0, positions.flatten()).view(positions.shape).long()
        return classes.masked_fill(~grid.inside, IGNORED)

    def _grid(self, split: MaskedSplit, indices: Tensor, draws: tuple[Tensor, ...]) -> Grid:
        sizes, (scale, *places), mirrored = split.sizes.index_select(0, indices), draws[:3], draws[3]
        axes = []
        for side, sources, place in zip(self.size, sizes.unbind(1), places, strict=True):
            # A smaller image lies anywhere within the sample, a larger one anywhere around it, by whole pixels.
            offset = (place * (scale * sources - side)).round()
            pixels = torch.arange(side, device=indices.device) + 0.5
            axes.append((pixels + offset[:, None]) / scale[:, None] - 0.5)
        rows, columns = axes
        columns = torch.where(mirrored[:, None], (sizes[:, 1, None] - 1) - columns, columns)
        return Grid(rows[:, :, None], columns[:, None, :], sizes, split.starts.index_select(0, indices))


def recoloured(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Change brightness, then contrast around an image's mean gray, then saturation; levels stay in [0, 255].

    Args:
        images: ``(B, 3, H, W)`` in levels of 0 to 255.
        brightness: factors ``(B,)``.
        contrast: likewise.
        saturation: likewise.
    """
    images = images * brightness[:, None, None, None]
    center = _gray(images).mean((2, 3), keepdim=True)
    images = torch.lerp(center, images, contrast[:, None, None, None])
    return torch.lerp(_gray(images), images, saturation[:, None, None, None]).clamp(0, 255)


def _gray(images: Tensor) -> Tensor:
    return (images * _column(GRAY, images.device)).sum(1, keepdim=True)


def _levels(mean: tuple[float, ...], device: torch.device) -> Tensor:
    return _column(tuple(255 * value for value in mean), device)


@lru_cache(maxsize=64)
def _column(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return one value for each channel ``(C, 1, 1)``, copied to a device once."""
    return torch.tensor(values, device=device)[:, None, None]
