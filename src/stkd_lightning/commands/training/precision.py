"""The precision of a run, and the choice to compile its networks: both are made once and stored with the run."""

import os
import shutil

import torch
from omegaconf import DictConfig
from torch import nn

from stkd_lightning.utilities.errors import InputError

# The approximate speed of eager training: precise enough to tell a run of seconds from a run of hours.
CPU_FLOPS_PER_CORE = 1e11
CUDA_FLOPS = 2e13
CUDA_SECONDS_PER_STEP = 0.01  # to launch a small network's kernels
WORTH_COMPILING = 300.0  # seconds of eager training; compilation takes 10 to 60


def device_type(trainer: DictConfig) -> str:
    """Return the device type that a trainer's node selects: ``cpu``, ``cuda`` or ``mps``."""
    accelerator = str(trainer.get("accelerator", "auto"))
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "cuda"
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def has_bfloat16(device: str) -> bool:
    """Return true if the hardware multiplies bfloat16 matrices faster than float32 matrices."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def best_dtype(network: nn.Module, device: str) -> torch.dtype:
    """Return the fastest dtype in which a network trains well.

    On the CPU a depthwise convolution is slower in bfloat16 than in float32 (MobileNetV2: twice as slow), so networks
    with grouped convolutions stay in float32.
    """
    grouped = any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in network.modules())
    return torch.bfloat16 if has_bfloat16(device) and not (grouped and device == "cpu") else torch.float32


def resolve_precision(setting: str, network: nn.Module, device: str) -> str:
    """Replace the precision ``auto`` by Lightning's name of the best one for a network; return others unchanged."""
    if setting != "auto":
        return setting
    return "bf16-mixed" if best_dtype(network, device) == torch.bfloat16 else "32-true"


def eager_seconds(device: str, flops: float, steps: int) -> float | None:
    """Return about how long a run takes without compilation; ``None`` for a device of unknown speed.

    Args:
        device: device type, as ``device_type`` returns it.
        flops: floating-point operations of the whole run.
        steps: optimizer steps of the whole run.
    """
    if device == "cpu":
        return flops / (CPU_FLOPS_PER_CORE * torch.get_num_threads())
    return max(flops / CUDA_FLOPS, steps * CUDA_SECONDS_PER_STEP) if device == "cuda" else None


def resolve_compile(setting: bool | str, *, device: str, flops: float, steps: int) -> bool:
    """Replace the setting ``auto`` of ``compile`` by true for runs of more than about five minutes.

    Args:
        setting: ``True``, ``False`` or ``"auto"``.
        device: device type, as ``device_type`` returns it.
        flops: floating-point operations of the whole run.
        steps: optimizer steps of the whole run.

    Raises:
        InputError: the setting is ``True``, but the machine has no C++ compiler.
    """
    compiler = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
    if setting is True and compiler is None:
        raise InputError("compile=true: needs a C++ compiler (g++ or clang++); install one, or set compile=false")
    if setting == "auto":
        seconds = eager_seconds(device, flops, steps) or 0.0
        setting = compiler is not None and seconds > WORTH_COMPILING
    return bool(setting)
