"""The choice between a whole split on the training device and worker processes that bring its batches."""

import torch

from stkd_lightning.data.arrays import AnySplit

SHARE = 0.5  # of the device's free memory that a split may take; training needs the rest


def fits(split: AnySplit, device: torch.device) -> bool:
    """Return whether a split fits on a device; on the CPU every split does, because its file is memory-mapped."""
    return device.type != "cuda" or split.inputs.nbytes <= SHARE * torch.cuda.mem_get_info(device)[0]
