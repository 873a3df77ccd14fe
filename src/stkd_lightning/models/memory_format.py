"""Channels-last memory format, and compilation for one shape."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from stkd_lightning.models.pointwise import without_stride

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


def compiled(run: Run, *, graphs: bool | None = None) -> Run:
    """Compile a network for one shape of its input; on CUDA into a graph that is launched at once.

    The compiler keeps its code by Python's code object, and its guards do not look at hooks. So each network gets a
    code object of its own: networks share neither code nor the limit of recompilations.

    Args:
        run: images to logits and features.
        graphs: launch CUDA graphs; ``None``: where there is CUDA.
    """

    def isolated(images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return run(images)

    isolated.__code__ = isolated.__code__.replace()
    graphs = torch.cuda.is_available() if graphs is None else graphs
    return torch.compile(isolated, dynamic=False, mode="reduce-overhead" if graphs else None)
