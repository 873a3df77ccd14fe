"""Fold BatchNorm into the convolutions before it, where this is exact."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from stkd_lightning.models.feature_hooks import INPUT
from stkd_lightning.models.input_adapter import AdaptedInput

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)  # exactly these types: subclasses may compute something else


class _Uses(TorchFunctionMode):
    """Counts the operations with a tensor as input and another tensor as output."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            inputs = {id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
            self.count.update(inputs)
        return result


def fold_batch_norm(network: nn.Module, images: Tensor, keep: Iterable[str] = ()) -> None:
    """Fold every BatchNorm that is the only reader of a convolution into this convolution, in place.

    A run on one image finds them. The network computes the same function, except for rounding.

    Args:
        network: in evaluation mode.
        images: example input ``(B, C, H, W)``.
        keep: module paths whose outputs must not change.
    """
    seen: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}
    uses = _Uses()

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.setdefault(module, []).append((inputs[0], output))
        uses.count[id(output)] = 0  # a deleted tensor may have had this id

    paths = {module: path for path, module in network.named_modules()}
    foldable = [m for m in paths if type(m) in CONVOLUTIONS or isinstance(m, _BatchNorm)]
    handles = [module.register_forward_hook(watch) for module in foldable]
    with torch.no_grad(), uses:
        network(images[:1])
    for handle in handles:
        handle.remove()
    once = {module: calls[0] for module, calls in seen.items() if len(calls) == 1}
    writers = {id(output): module for module, (_, output) in once.items() if type(module) in CONVOLUTIONS}
    inner = f"{AdaptedInput.INNER}." if isinstance(network, AdaptedInput) else ""
    for norm, (read, _) in once.items():
        conv: Any = writers.get(id(read))
        if conv is None or norm.training or not isinstance(norm, _BatchNorm) or norm.running_mean is None:
            continue
        between = any(_parts(paths[conv], paths[norm], inner + path) for path in keep)
        if uses.count[id(read)] == 1 and not between:
            network.set_submodule(paths[conv], fuse_conv_bn_eval(conv, norm))
            network.set_submodule(paths[norm], nn.Identity())


def _parts(conv: str, norm: str, kept: str) -> bool:
    """Return whether a kept output is between a convolution and the norm that reads it."""
    outer = kept.removesuffix(INPUT)
    if kept.endswith(INPUT):
        return _within(norm, outer) and not _within(conv, outer)
    return _within(conv, outer) and not _within(norm, outer)


def _within(path: str, outer: str) -> bool:
    return path == outer or path.startswith(f"{outer}.")
