"""Augmentation of whole batches; that of CIFAR: pad with black, crop at random, flip at random."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stkd_lightning.data.arrays import Split
from stkd_lightning.utilities.random import sample_bits


class Augmentation(Protocol):
    """Makes the samples of a training epoch from a split, as a function of (seed, epoch, sample).

    Attributes:
        per_image: samples are made one by one, which takes time and makes no trace; worker processes make them.
    """

    per_image: ClassVar[bool]

    def draw(self, indices: NDArray[np.int64], *, seed: int, epoch: int) -> tuple[Tensor, ...]:
        """Draw the augmentation of samples ``(N,)``: tensors ``(N,)``; a sample's draw is the same in any company."""

    def images(self, split: Any, indices: Tensor, draws: tuple[Tensor, ...]) -> Tensor:
        """Return new images ``(B, C, H, W)``, uint8 or float32 in units of 1 / 255."""

    def labels(self, split: Any, indices: Tensor, draws: tuple[Tensor, ...]) -> Tensor:
        """Return the labels ``(B, ...)`` int64 of these images."""


class Draws(NamedTuple):
    """Random draws for N samples: first row and column of each crop ``(N,)``, and mirrored or not ``(N,)``."""

    top: Tensor
    left: Tensor
    mirrored: Tensor


def draw(indices: NDArray[np.int64], *, padding: int, flip: bool, seed: int, epoch: int) -> Draws:
    """Draw a shift of up to ``padding`` pixels for each sample and, if ``flip``, mirror half of the samples.

    A sample's draw is a function of (seed, epoch, index): the same in any batch, on any rank and device.

    Args:
        indices: ``(N,)`` positions in the data set.
        padding: pixels of black on each side.
        flip: whether images may be mirrored.
        seed: >= 0.
        epoch: >= 0.
    """
    bits = sample_bits(seed, "augmentation", epoch, indices)
    shifts = np.uint64(2 * padding + 1)
    top, left = bits % shifts, (bits >> np.uint64(32)) % shifts
    mirrored = (bits >> np.uint64(63)).astype(bool) & flip
    return Draws(*(torch.from_numpy(a) for a in (top.astype(np.int64), left.astype(np.int64), mirrored)))


def crop_and_flip(images: Tensor, draws: Draws, *, padding: int) -> Tensor:
    """Shift and mirror images ``(B, C, H, W)`` uint8 by their draws; uncovered pixels are black."""
    batch, channels, height, width = images.shape
    device = images.device
    rows = draws.top[:, None] + torch.arange(height, device=device)
    columns = draws.left[:, None] + torch.arange(width, device=device)
    columns = torch.where(draws.mirrored[:, None], columns.flip(1), columns)
    padded = torch.nn.functional.pad(images, (padding, padding, padding, padding)).flatten(2)
    # A single gather of whole planes; indexing by rows and columns takes four times as long on a CPU.
    positions = (rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]).flatten(1)
    return padded.gather(2, positions[:, None].expand(batch, channels, -1)).view(batch, channels, height, width)


@dataclass(frozen=True)
class CropAndFlip:
    """The augmentation of CIFAR; labels do not change.

    Attributes:
        padding: pixels of black on each side, over which an image is shifted.
        flip: mirror half of the images.
    """

    padding: int
    flip: bool
    per_image: ClassVar[bool] = False

    def draw(self, indices: NDArray[np.int64], *, seed: int, epoch: int) -> tuple[Tensor, ...]:
        """Return ``draw``."""
        return draw(indices, padding=self.padding, flip=self.flip, seed=seed, epoch=epoch)

    def images(self, split: Split, indices: Tensor, draws: tuple[Tensor, ...]) -> Tensor:
        """Return shifted and mirrored images uint8."""
        return crop_and_flip(split.pictures(indices), Draws(*draws), padding=self.padding)

    def labels(self, split: Split, indices: Tensor, draws: tuple[Tensor, ...]) -> Tensor:
        """Return the labels of the split."""
        return split.labels.index_select(0, indices)
