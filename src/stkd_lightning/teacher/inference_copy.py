"""A trained network as constants: BatchNorm folded, channels last, in the compute precision, compiled where asked."""

import copy
import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from stkd_lightning.models.feature_hooks import FeatureTap
from stkd_lightning.models.fold_batch_norm import CONVOLUTIONS, fold_batch_norm
from stkd_lightning.models.memory_format import Run, channels_last, compiled, images_channels_last
from stkd_lightning.tasks.types import ModelOutput

# Largest difference of a logit from the network's own, relative to the largest logit. bfloat16 holds 8 bits and strays
# by 0.005 on the CIFAR networks; float32 may be a GPU's TF32. Beyond these values something is wrong, not rounded.
TOLERANCE = {torch.bfloat16: 0.05, torch.float16: 0.02, torch.float32: 0.01, torch.float64: 0.01}
CHECKED_IMAGES = 16


def compute_dtype(images: Tensor) -> torch.dtype:
    """Return the precision that images are computed in: autocast's for float32 under autocast, else their own."""
    kind = images.device.type
    if images.dtype == torch.float32 and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return images.dtype


class InferenceCopy:
    """Answers as a frozen network does, from a copy made for one device and precision.

    Weights are copied now and follow no later change. Logits are compared with those of the network itself; where they
    stray beyond ``TOLERANCE``, a warning says so and the network is used as it is, in float32.

    Args:
        network: in evaluation mode; stays as it is.
        paths: modules whose outputs are kept; see ``FeatureTap``.
        images: a batch as it will come, ``(B, C, H, W)``; gives the device.
        dtype: precision to compute in.
        within_tolerance: what was found of these logits before, so that it is not asked again of other images.

    Attributes:
        within_tolerance: whether they stay within ``TOLERANCE``.
    """

    def __init__(
        self,
        network: nn.Module,
        paths: Iterable[str],
        images: Tensor,
        dtype: torch.dtype,
        *,
        within_tolerance: bool | None = None,
    ) -> None:
        self.paths, self.dtype = tuple(paths), dtype
        self._prepare(network, images, fold=True)
        self.within_tolerance = (
            self._is_within_tolerance(network, images) if within_tolerance is None else within_tolerance
        )
        if not self.within_tolerance:
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

    def _is_within_tolerance(self, network: nn.Module, images: Tensor) -> bool:
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
