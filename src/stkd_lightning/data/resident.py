"""A whole split where the training is, so that a batch is taken by index and no process has to bring it."""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from stkd_lightning.data.arrays import Split

SHARE = 0.5  # of the device's free memory that a split may take; the training needs the rest


class Pixels(NamedTuple):
    """Images ``(N, C, H, W)`` uint8 and labels ``(N,)`` int64 on one device; on the CPU memory-mapped."""

    images: Tensor
    labels: Tensor


def fits(split: Split, device: torch.device) -> bool:
    """Return whether a split may lie on a device; on the CPU the file is mapped, whatever its size."""
    return device.type != "cuda" or split.images.nbytes <= SHARE * torch.cuda.mem_get_info(device)[0]


def place(split: Split, device: torch.device | str = "cpu") -> Pixels:
    """Put a split on a device; on the CPU nothing is read before it is used."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")  # nothing here writes
        images = torch.from_numpy(split.images)
    return Pixels(images.to(device), torch.from_numpy(split.labels).to(device))
