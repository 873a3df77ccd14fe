"""Channels-last memory format, and compilation for one shape."""

from collections.abc import Callable
from functools import cache
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from stkd_lightning.models.pointwise import without_stride

P = ParamSpec("P")
R = TypeVar("R")
Run = Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]]


def channels_last(module: nn.Module) -> nn.Module:
    """Convert the weights of two-dimensional convolutions to channels last, in place, and return the module.

    Convolutions whose backward is unsafe on CPUs are made safe; see ``StridedPointwise``.
    """
    without_stride(module)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return module


def images_channels_last(images: Tensor) -> Tensor:
    """Convert images ``(B, C, H, W)`` to channels last; return inputs of other shapes unchanged."""
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images


def isolated(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that does the same and has a code object of its own.

    The compiler keeps its code by Python's code object, and its guards do not look at hooks. So isolated functions
    share neither code nor the limit of recompilations.
    """

    def alone(*arguments: P.args, **options: P.kwargs) -> R:
        return function(*arguments, **options)

    alone.__code__ = alone.__code__.replace()
    return alone


def compiled(run: Run, *, graphs: bool = True) -> Run:
    """Compile a network for one shape of its input; on CUDA into a graph that is launched at once.

    Args:
        run: images to logits and features.
        graphs: launch CUDA graphs for images on CUDA.
    """

    @cache
    def code(device: str) -> Run:
        mode = "reduce-overhead" if graphs and device == "cuda" else None
        generated = torch.compile(isolated(run), dynamic=False, mode=mode)
        # Inside DDP's forward the compiler would cut the network at DDP's buckets.
        return torch._dynamo.config.patch(optimize_ddp=False)(generated)

    def call(images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return code(images.device.type)(images)

    return call
