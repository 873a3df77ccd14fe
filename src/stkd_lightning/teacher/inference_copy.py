"""A copy of a trained network for inference: BatchNorm folded, channels last, in the compute precision, or compiled."""

import copy
import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from stkd_lightning.models.feature_hooks import FeatureTap
from stkd_lightning.models.fold_batch_norm import CONVOLUTIONS, fold_batch_norm
from stkd_lightning.models.memory_format import Run, channels_last, compiled, images_channels_last
from stkd_lightning.tasks.types import ModelOutput

# Largest difference of a logit from the exact logit, relative to the largest logit. bfloat16 has 8 bits and differs by
# 0.005 on the CIFAR networks; float32 may be a GPU's TF32. A larger difference is an error, not rounding.
TOLERANCE = {torch.bfloat16: 0.05, torch.float16: 0.02, torch.float32: 0.01, torch.float64: 0.01}
CHECKED_IMAGES = 16


def compute_dtype(images: Tensor) -> torch.dtype:
    """Return the compute precision: that of autocast for float32 images under autocast, else that of the images."""
    device = images.device.type
    if images.dtype == torch.float32 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return images.dtype


class InferenceCopy:
    """A frozen network's outputs, computed by a copy for one device and precision.

    Later changes of the network do not change the copy. The copy's logits are compared with the network's logits; if
    they differ by more than ``TOLERANCE``, a warning is given and the copy is the unchanged network in float32.

    Args:
        network: in evaluation mode; it does not change.
        paths: modules whose outputs are returned; see ``FeatureTap``.
        images: example batch ``(B, C, H, W)``; the copy is made for its device.
        dtype: compute precision.
        within_tolerance: result of an earlier comparison, which is then not repeated; ``None`` compares.

    Attributes:
        within_tolerance: whether the logits differ by no more than ``TOLERANCE``.
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
        full = torch.promote_types(self.dtype, torch.float32)
        network = copy.deepcopy(network).to(images.device, full)
        if fold:
            with torch.autocast(images.device.type, enabled=False):
                fold_batch_norm(network, images.to(full), self.paths)
        for module in network.modules():
            # Only the modules that autocast casts at every call; the others stay in full precision.
            if self.dtype != full and type(module) in (*CONVOLUTIONS, nn.Linear):
                module.to(self.dtype)
        self._tap = FeatureTap(channels_last(network).requires_grad_(False), self.paths)

    def _is_within_tolerance(self, network: nn.Module, images: Tensor) -> bool:
        error, tolerance = self._error(network, images), TOLERANCE[self.dtype]
        if not error <= tolerance:
            warnings.warn(
                f"teacher: its copy in {str(self.dtype).removeprefix('torch.')} differs by {error:.1%} from the exact "
                f"logits (tolerance {tolerance:.1%}); the teacher runs in float32",
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
        """Return logits ``(B, K)`` and features of images on the copy's device.

        Args:
            images: ``(B, C, H, W)``.
            compile: run compiled code, for images of one shape; on CPUs with the weights as constants.
        """
        half = self.dtype in (torch.bfloat16, torch.float16)
        images = images_channels_last(images.to(torch.promote_types(self.dtype, torch.float32)))
        with torch.autocast(images.device.type, self.dtype if half else None, enabled=half):
            if not compile:
                return self._tap(images)
            self._compiled = self._compiled or compiled(self._tap.parts)
            # As an option of torch.compile freezing does nothing; as a global setting it would freeze the student too.
            # On CUDA it gains nothing on folded weights, and the compiler's cache on disk does not hold frozen code.
            with torch._inductor.config.patch(freezing=images.device.type == "cpu"):
                logits, features = self._compiled(images)
        if not images.is_cuda:
            return ModelOutput(logits, features)
        # A CUDA graph writes its next output over the last output.
        return ModelOutput(logits.clone(), {path: feature.clone() for path, feature in features.items()})
