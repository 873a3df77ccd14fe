"""A trained network as constants: BatchNorm folded, channels last, in the compute precision, compiled where asked."""

import copy
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from stkd_lightning.models.features import INPUT, FeatureTap
from stkd_lightning.models.inputs import AdaptedInput
from stkd_lightning.tasks.types import ModelOutput

# Largest difference of a logit from the network's own, relative to the largest logit. bfloat16 holds 8 bits and strays
# by 0.005 on the CIFAR networks; float32 may be a GPU's TF32. Beyond these values something is wrong, not rounded.
TOLERANCE = {torch.bfloat16: 0.05, torch.float16: 0.02, torch.float32: 0.01, torch.float64: 0.01}
CHECKED_IMAGES = 16
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)  # themselves: what inherits from them may do something else

Run = Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]]


def compute_dtype(images: Tensor) -> torch.dtype:
    """Return the precision that images are computed in: autocast's for float32 under autocast, else their own."""
    kind = images.device.type
    if images.dtype == torch.float32 and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return images.dtype


def channels_last(module: nn.Module) -> nn.Module:
    """Store the weights of two-dimensional convolutions channels last, in place, and return the module."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return module


def images_channels_last(images: Tensor) -> Tensor:
    """Return images ``(B, C, H, W)`` channels last; inputs of other shapes as they are."""
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images


def compiled(run: Run) -> Run:
    """Compile for the one shape of a training batch; on CUDA into a graph that is launched at once."""
    return torch.compile(run, dynamic=False, mode="reduce-overhead" if torch.cuda.is_available() else None)


class _Uses(TorchFunctionMode):
    """Counts how often a tensor goes into an operation that makes another tensor."""

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
    """Fold, in place, every evaluated BatchNorm that alone reads a convolution into that convolution.

    Which these are is seen from a run on one image. The function stays the same but for rounding.

    Args:
        network: in evaluation mode.
        images: ``(B, C, H, W)`` that it takes.
        keep: module paths whose outputs must stay what they are.
    """
    seen: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}
    uses = _Uses()

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.setdefault(module, []).append((inputs[0], output))
        uses.count[id(output)] = 0  # a tensor that is gone by now may have had this id

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
    """Return whether what is kept is, or lies, between a convolution and the norm that reads it."""
    outer = kept.removesuffix(INPUT)
    if kept.endswith(INPUT):
        return _within(norm, outer) and not _within(conv, outer)
    return _within(conv, outer) and not _within(norm, outer)


def _within(path: str, outer: str) -> bool:
    return path == outer or path.startswith(f"{outer}.")


class Constants:
    """Answers as a frozen network does, from a copy made for one device and precision.

    Weights are copied now and follow no later change. Logits are compared with those of the network itself; where they
    stray beyond ``TOLERANCE``, a warning says so and the network is used as it is, in float32.

    Args:
        network: in evaluation mode; stays as it is.
        paths: modules whose outputs are kept; see ``FeatureTap``.
        images: a batch as it will come, ``(B, C, H, W)``; gives the device.
        dtype: precision to compute in.
        faithful: what was found of these logits before, so that it is not asked again of other images.

    Attributes:
        faithful: whether they stay within ``TOLERANCE``.
    """

    def __init__(
        self,
        network: nn.Module,
        paths: Iterable[str],
        images: Tensor,
        dtype: torch.dtype,
        *,
        faithful: bool | None = None,
    ) -> None:
        self.paths, self.dtype = tuple(paths), dtype
        self._prepare(network, images, fold=True)
        self.faithful = self._is_faithful(network, images) if faithful is None else faithful
        if not self.faithful:
            self.dtype = torch.promote_types(dtype, torch.float32)
            self._prepare(network, images, fold=False)
        self._compiled: Run | None = None

    def _prepare(self, network: nn.Module, images: Tensor, *, fold: bool) -> None:
        own = torch.promote_types(self.dtype, torch.float32)
        network = copy.deepcopy(network).to(images.device, own)
        if fold:
            with torch.autocast(images.device.type, enabled=False):
                fold_batch_norm(network, images.to(own), self.paths)
        for module in network.modules():
            # Only what autocast would cast at every call; the rest stays as exact as autocast keeps it.
            if self.dtype != own and type(module) in (*CONVOLUTIONS, nn.Linear):
                module.to(self.dtype)
        self._tap = FeatureTap(channels_last(network).requires_grad_(False), self.paths)

    def _is_faithful(self, network: nn.Module, images: Tensor) -> bool:
        error, tolerance = self._error(network, images), TOLERANCE[self.dtype]
        if not error <= tolerance:
            warnings.warn(
                f"teacher: its copy in {str(self.dtype).removeprefix('torch.')} strays {error:.1%} from the exact "
                f"logits (tolerance {tolerance:.1%}): it is used as it is, in float32",
                stacklevel=4,
            )
        return error <= tolerance

    def _error(self, network: nn.Module, images: Tensor) -> float:
        images = images[:CHECKED_IMAGES]
        parameter = next(network.parameters(), images)
        with torch.autocast(parameter.device.type, enabled=False):
            exact = FeatureTap(network)(images.to(parameter.device, parameter.dtype)).logits.float()
        logits = self(images).logits.float().to(exact.device)
        return float((logits - exact).abs().max() / exact.abs().max().clamp(min=1e-6))

    def __call__(self, images: Tensor, *, compile: bool = False) -> ModelOutput:
        """Return logits ``(B, K)`` and features of images on the device that it was made for.

        Args:
            images: ``(B, C, H, W)``.
            compile: by code generated with the weights as constants, for images of one shape.
        """
        half = self.dtype in (torch.bfloat16, torch.float16)
        images = images_channels_last(images.to(torch.promote_types(self.dtype, torch.float32)))
        with torch.autocast(images.device.type, self.dtype if half else None, enabled=half):
            if not compile:
                return self._tap(images)
            self._compiled = self._compiled or compiled(self._tap.parts)
            # Given to torch.compile as an option freezing does nothing; set globally it would freeze the student too.
            with torch._inductor.config.patch(freezing=True):
                logits, features = self._compiled(images)
        if not images.is_cuda:
            return ModelOutput(logits, features)
        # A CUDA graph writes its next answer over the last one.
        return ModelOutput(logits.clone(), {path: feature.clone() for path, feature in features.items()})
