"""The choice between a whole split on the training device and worker processes that bring its batches."""

import os
from typing import Literal

import torch

from stkd_lightning.data.arrays import AnySplit
from stkd_lightning.data.picture_split import FileSplit, PictureSplit
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.distributed import world

SHARE = 0.5  # of the device's free memory that a split may take; training needs the rest


def fits(split: AnySplit, device: torch.device) -> bool:
    """Return whether a split fits on a device; on the CPU every split does, because its file is memory-mapped."""
    return device.type != "cuda" or split.inputs.nbytes <= SHARE * torch.cuda.mem_get_info(device)[0]


def placed(
    name: str,
    split: AnySplit,
    device: torch.device,
    resident: bool | Literal["auto"],
    workers: int | None,
    batched: bool,
) -> tuple[AnySplit, int]:
    """Return a split on the training device if it fits, and the number of processes that make its batches.

    Args:
        name: of the split, for messages.
        split: on the CPU.
        device: of the training.
        resident: ``"auto"``: on the device if the split fits, and its samples are made in batches.
        workers: number of processes where it is not; ``None``: one for each core of the rank, at most 8.
        batched: no augmentation makes the samples one by one.
    """
    quick = batched and not isinstance(split, PictureSplit | FileSplit)
    automatic = resident == "auto"
    is_resident = fits(split, device) and quick if automatic else bool(resident)
    if not is_resident and automatic and quick:
        size = split.inputs.nbytes / 2**30
        print_rank_zero(
            f"dataset: the {name} samples, {size:.1f} GiB, do not fit on {device}; worker processes read them"
        )
    on_device = is_resident and quick and device.type == "cuda"  # other images are made on the CPU, as by workers
    return split.to(device if on_device else torch.device("cpu")), 0 if is_resident else _processes(workers)


def _processes(workers: int | None) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(1, cores // world()[1])) if workers is None else workers
