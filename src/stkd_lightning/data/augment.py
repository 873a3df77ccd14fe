"""CIFAR augmentation of whole batches: pad with black, crop at random, flip at random."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stkd_lightning.utilities.random import sample_bits


class Draws(NamedTuple):
    """Random draws for N samples: first row and column of each crop ``(N,)``, and mirrored or not ``(N,)``."""

    top: Tensor
    left: Tensor
    mirrored: Tensor

    def to(self, device: torch.device) -> "Draws":
        """Return the draws on a device."""
        return Draws(*(part.to(device) for part in self))


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
