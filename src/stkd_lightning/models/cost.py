"""The size and the work of a network."""

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload, OpOverloadPacket
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from stkd_lightning.utilities.image_size import Size, shape_of

Shape = Sequence[int]

# Operators of several matrices that move numbers or do a few operations for each.
LIGHT = {
    "cat", "stack", "copy", "index_put", "index_add", "index_copy", "scatter", "scatter_add", "scatter_reduce",
    "slice_scatter", "select_scatter", "masked_scatter", "native_layer_norm", "_prelu_kernel",
    "_weight_norm_interface", "_linalg_check_errors", "linalg_vector_norm",
}  # fmt: skip


def parameters(network: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(p.numel() for p in network.parameters())


def flops(network: nn.Module, image_size: Size, channels: int = 3) -> int:
    """Return the floating-point operations for one input: two for each multiply-add of convolutions and products.

    A warning names the operators whose work is not counted.

    Args:
        network: images ``(1, C, H, W)``, or clips ``(1, T)``, to logits; it does not change.
        image_size: side in pixels, or height and width; the samples of a clip.
        channels: C; 0 for clips.
    """
    name = type(network).__name__
    network = copy.deepcopy(network).cpu().float().eval()
    counter = FlopCounterMode(display=False, custom_mapping=PRODUCTS)
    uncounted = _Uncounted(counter.flop_registry)
    with _attention_as_products(), torch.no_grad(), uncounted, counter:
        network(torch.zeros(1, *shape_of(channels, image_size)))
    if uncounted.names:
        message = f"{name}: its FLOPs leave out the work of {', '.join(sorted(uncounted.names))}"
        warnings.warn(message, stacklevel=1)  # one place, so that it is shown once in a run
    return int(counter.get_total_flops())


def _matrix_by_vector(matrix: Shape, *others: Any, **options: Any) -> int:
    return 2 * prod(matrix)


def _added_matrix_by_vector(added: Shape, matrix: Shape, *others: Any, **options: Any) -> int:
    return 2 * prod(matrix)


def _recurrent_layer(steps: Shape, inputs: Shape, states: Shape, *others: Any, **options: Any) -> int:
    return 2 * prod(steps[:-1]) * (prod(inputs) + prod(states))


PRODUCTS = {  # what torch's counter does not know
    torch.ops.aten.mv: _matrix_by_vector,
    torch.ops.aten.dot: _matrix_by_vector,
    torch.ops.aten.addmv: _added_matrix_by_vector,
    torch.ops.aten.mkldnn_rnn_layer: _recurrent_layer,
}


class _Uncounted(TorchDispatchMode):
    """Collects the operators outside of a counter that may do the work of matrix products."""

    def __init__(self, counted: dict[OpOverloadPacket, Any]) -> None:
        super().__init__()
        self.counted = counted
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if isinstance(func, OpOverload) and func.overloadpacket not in self.counted:
            namespace, name = func._schema.name.split("::")
            floats = (t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor) and t.is_floating_point())
            several = sum(t.ndim >= 2 for t in floats) >= 2 or "linalg" in name
            light = namespace == "aten" and name.removesuffix("_") in LIGHT
            if several and not light and torch.Tag.pointwise not in func.tags:
                self.names.add(f"{namespace}::{name}")
        return func(*args, **(kwargs or {}))


@contextmanager
def _attention_as_products() -> Iterator[None]:
    """Compute attention by matrix products, which are counted, instead of fused kernels, which are not."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
