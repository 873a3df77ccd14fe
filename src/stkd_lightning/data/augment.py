"""The CIFAR augmentation on whole batches: pad with black, crop at random, flip at random."""

import numpy as np
import torch
from torch import Tensor

from stkd_lightning.randomness import sample_bits


def crop_and_flip(images: Tensor, indices: Tensor, *, padding: int, flip: bool, seed: int, epoch: int) -> Tensor:
    """Shift each image by up to ``padding`` pixels and mirror half of them.

    The draw of a sample is a function of (seed, epoch, index): the same in any batch, on any rank.

    Args:
        images: ``(B, C, H, W)`` uint8.
        indices: ``(B,)`` positions in the data set.
        padding: pixels of black on each side.
        flip: whether left and right may be exchanged.
        seed: >= 0.
        epoch: >= 0.

    Returns:
        ``(B, C, H, W)`` uint8.
    """
    bits = sample_bits(seed, "augmentation", epoch, indices.numpy())
    shifts = np.uint64(2 * padding + 1)
    top = torch.from_numpy((bits % shifts).astype(np.int64))
    left = torch.from_numpy(((bits >> np.uint64(32)) % shifts).astype(np.int64))
    batch, channels, height, width = images.shape
    rows = top[:, None] + torch.arange(height)
    columns = left[:, None] + torch.arange(width)
    if flip:
        mirrored = torch.from_numpy((bits >> np.uint64(63)).astype(bool))
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    padded = torch.nn.functional.pad(images, (padding, padding, padding, padding))
    return padded[
        torch.arange(batch)[:, None, None, None],
        torch.arange(channels)[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]
