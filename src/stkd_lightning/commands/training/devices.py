"""The devices that a trainer's node selects, before Lightning builds the trainer."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.accelerators import CUDAAccelerator
from omegaconf import DictConfig

from stkd_lightning.commands.training.precision import device_type
from stkd_lightning.utilities.rank import local_rank


def first_device(devices: Any) -> Any:
    """Return the first device of a list such as ``[2, 3]`` or ``"2,3"``; one device for a number."""
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        return list(devices[:1])
    return f"{devices.partition(',')[0]}," if isinstance(devices, str) and "," in devices else 1


def rank_device(trainer: DictConfig) -> torch.device:
    """Return the device on which this rank will train."""
    kind = device_type(trainer)
    if kind != "cuda":
        return torch.device(kind)
    devices = trainer.get("devices", "auto")
    if not isinstance(devices, int | str):
        devices = list(devices)
    numbers = CUDAAccelerator.parse_devices(-1 if devices == "auto" else devices) or [0]
    return torch.device(kind, numbers[local_rank() % len(numbers)])
