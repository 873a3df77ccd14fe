"""Augmentation of images together with their masks: scale, crop, flip and colour, as one resampling of each image."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from stkd_lightning.data.arrays import MaskedSplit
from stkd_lightning.tasks.segmentation import IGNORED
from stkd_lightning.utilities.random import sample_uniforms

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

    @property
    def coordinates(self) -> Tensor:
        """The places ``(B, H, W, 2)`` as ``grid_sample`` reads them: column and row, -1 and 1 at a source's edges."""
        sides = self.sizes[:, :, None, None].float()
        rows, columns = (2 * self.rows + 1) / sides[:, 0] - 1, (2 * self.columns + 1) / sides[:, 1] - 1
        return torch.stack(torch.broadcast_tensors(columns, rows), dim=-1)

    @property
    def nearest(self) -> Tensor:
        """Positions ``(B, H, W)`` of the nearest pixels in the split."""
        places = zip((self.rows, self.columns), self.sizes[:, :, None, None].unbind(1), strict=True)
        zero = torch.zeros((), dtype=torch.int64, device=self.rows.device)
        rows, columns = ((place + 0.5).floor().long().maximum(zero).minimum(side - 1) for place, side in places)
        return self.starts[:, None, None] + rows * self.sizes[:, 1, None, None] + columns


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
    per_image: ClassVar[bool] = False

    def draw(self, indices: NDArray[np.int64], *, seed: int, epoch: int) -> tuple[Tensor, ...]:
        """Draw scale, place of the crop in [0, 1] twice, mirrored or not, and colours: ``(N,)`` each.

        A sample's draw is a function of (seed, epoch, index).
        """

        def uniform(purpose: str) -> NDArray[np.float64]:
            return sample_uniforms(seed, purpose, epoch, indices)

        low, high = self.scale
        places = [low + (high - low) * uniform("scale"), uniform("top"), uniform("left")]
        mirrored = (uniform("mirrored") < 0.5) & self.flip
        colours = [1 + self.colour * (2 * uniform(name) - 1) for name in COLOURS] if self.colour else []
        numbers = [torch.from_numpy(values.astype(np.float32)) for values in (*places, *colours)]
        return *numbers[:3], torch.from_numpy(mirrored), *numbers[3:]

    def images(self, split: MaskedSplit, indices: Tensor, draws: tuple[Tensor, ...]) -> Tensor:
        """Return images ``(B, C, H, W)`` float32 in levels of 0 to 255."""
        grid = self._grid(split, indices, draws)
        if split.size is not None:
            sources = split.images.view(split.samples, split.channels, *split.size).index_select(0, indices)
            images = resampled(sources, grid.coordinates)
        else:
            pairs = zip(indices.tolist(), grid.coordinates.split(1), strict=True)
            images = torch.cat([resampled(split.image(i)[None], coordinates) for i, coordinates in pairs])
        if self.colour:
            images = recoloured(images, *draws[4:])
        planes = zip(images.unbind(1), self.mean, strict=True)  # no copy of the mean to the device
        return torch.stack([plane.where(grid.inside, 255 * mean) for plane, mean in planes], dim=1)

    def labels(self, split: MaskedSplit, indices: Tensor, draws: tuple[Tensor, ...]) -> Tensor:
        """Return masks ``(B, H, W)`` int64."""
        grid = self._grid(split, indices, draws)
        positions = grid.nearest
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


def resampled(sources: Tensor, coordinates: Tensor) -> Tensor:
    """Read images ``(B, C, h, w)`` at coordinates ``(B, H, W, 2)``, bilinearly; their edges continue outside."""
    return F.grid_sample(sources.float(), coordinates, mode="bilinear", padding_mode="border", align_corners=False)


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
    return sum(share * images[:, i : i + 1] for i, share in enumerate(GRAY))  # type: ignore[return-value]
