"""Channels-last memory format, and compilation for one shape."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Run = Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]]


def channels_last(module: nn.Module) -> nn.Module:
    """Convert the weights of two-dimensional convolutions to channels last, in place, and return the module."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return module


def images_channels_last(images: Tensor) -> Tensor:
    """Convert images ``(B, C, H, W)`` to channels last; return inputs of other shapes unchanged."""
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images


def compiled(run: Run) -> Run:
    """Compile for the shape of a training batch; on CUDA to a CUDA graph."""
    return torch.compile(run, dynamic=False, mode="reduce-overhead" if torch.cuda.is_available() else None)
