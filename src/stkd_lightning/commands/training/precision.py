"""What makes a run fast, decided once for it and kept with it: its precision, and whether code is compiled for it."""

import os
import shutil

import torch
from omegaconf import DictConfig
from torch import nn

from stkd_lightning.utilities.errors import InputError

# What eager training sustains, roughly: enough to tell a run of seconds from one of hours.
CPU_FLOPS_PER_CORE = 1e11
CUDA_FLOPS = 2e13
CUDA_SECONDS_PER_STEP = 0.01  # the launches of a small network's kernels
WORTH_COMPILING = 300.0  # seconds of eager training; the compiler takes 10 to 60


def device_type(trainer: DictConfig) -> str:
    """Return where a trainer's node trains: ``cpu``, ``cuda``, or another accelerator's name."""
    wanted = str(trainer.get("accelerator", "auto"))
    if wanted in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "cuda"
    if wanted in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def has_bfloat16(device: str) -> bool:
    """Return whether the hardware multiplies matrices of bfloat16 faster than of float32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def best_dtype(network: nn.Module, device: str) -> torch.dtype:
    """Return the fastest precision that a network learns well in.

    On the CPU a depthwise convolution is slower in bfloat16 than in float32 (MobileNetV2: twice), so a network with
    grouped convolutions stays in float32 there.
    """
    grouped = any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in network.modules())
    return torch.bfloat16 if has_bfloat16(device) and not (grouped and device == "cpu") else torch.float32


def precision(setting: str, network: nn.Module, device: str) -> str:
    """Return Lightning's name of the precision that a network trains in; ``auto`` is decided, another stays."""
    if setting != "auto":
        return setting
    return "bf16-mixed" if best_dtype(network, device) == torch.bfloat16 else "32-true"


def compiles(setting: bool | str, *, device: str, flops: float, steps: int) -> bool:
    """Return whether a run compiles its networks.

    Args:
        setting: ``True``, ``False``, or ``"auto"``: if it would take minutes without.
        device: where it trains.
        flops: floating-point operations of the whole run.
        steps: of the whole run.

    Raises:
        InputError: ``True`` on a machine that has no C++ compiler.
    """
    compiler = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
    if setting is True and compiler is None:
        raise InputError("compile=true: needs a C++ compiler, g++ or clang++; compile=false does without")
    if setting == "auto":
        seconds = {
            "cpu": flops / (CPU_FLOPS_PER_CORE * torch.get_num_threads()),
            "cuda": max(flops / CUDA_FLOPS, steps * CUDA_SECONDS_PER_STEP),
        }
        setting = compiler is not None and seconds.get(device, 0.0) > WORTH_COMPILING
    return bool(setting)


def length(trainer: DictConfig, batches: int) -> int:
    """Return the steps of a run whose loader gives so many batches an epoch."""
    limit = trainer.get("limit_train_batches")
    if limit is not None:
        batches = min(batches, int(limit) if isinstance(limit, int) else int(batches * limit))
    steps = batches * int(trainer.max_epochs)
    most = trainer.get("max_steps", -1)
    return min(steps, most) if most >= 0 else steps
