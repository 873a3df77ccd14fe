"""The frozen teacher: in evaluation mode, never trained, and in no checkpoint, optimizer or DDP bucket."""

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from stkd_lightning.models.feature_hooks import check_paths
from stkd_lightning.models.preactivation import Preactivation
from stkd_lightning.models.weights import load_weights
from stkd_lightning.tasks.base import Score, Task
from stkd_lightning.tasks.classification import Classification
from stkd_lightning.tasks.evaluation import measured
from stkd_lightning.tasks.types import ModelOutput
from stkd_lightning.teacher.inference_copy import InferenceCopy, compute_dtype
from stkd_lightning.utilities.errors import InputError

__all__ = ["FrozenTeacher", "check_accuracy", "default_min_accuracy", "load_weights"]


class FrozenTeacher(nn.Module):
    """A trained network that computes outputs and never changes.

    The given network stays on its device, bit for bit. The first call on a device and in a precision creates an
    ``InferenceCopy`` of it: BatchNorm folded, channels last, in the precision of autocast.

    Args:
        network: trained classifier, images ``(B, C, H, W)`` to logits ``(B, K)``.
        features: module paths whose outputs are returned; see ``FeatureTap``.
        dtype: precision for float32 images; ``None``: the precision of autocast, if it is enabled.
        compile: generate code with the weights as constants, for batches of one shape.

    Attributes:
        within_tolerance: for each precision, whether its logits are close enough to exact logits.

    Raises:
        InputError: a feature path that does not exist.

    Example:
        >>> import torch
        >>> from stkd_lightning.models import create_model
        >>> from stkd_lightning.teacher import FrozenTeacher
        >>> teacher = FrozenTeacher(create_model("resnet20", num_classes=10), features=["layer3"])
        >>> output = teacher.train()(torch.zeros(2, 3, 32, 32))
        >>> output.logits.shape, output.features["layer3"].shape, output.logits.requires_grad, teacher.training
        (torch.Size([2, 10]), torch.Size([2, 64, 8, 8]), False, False)
    """

    def __init__(
        self,
        network: nn.Module,
        features: Iterable[str] = (),
        *,
        dtype: torch.dtype | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.paths = tuple(features)
        self.dtype, self.compiles = dtype, compile
        self.eval()
        check_paths(network, self.paths)
        self._copies: dict[tuple[torch.device, torch.dtype], InferenceCopy] = {}
        self.within_tolerance: dict[torch.dtype, bool] = {}

    def with_features(self, paths: Iterable[str]) -> "FrozenTeacher":
        """Return a teacher of the same network that also returns the outputs at these paths."""
        return FrozenTeacher(
            self.network, dict.fromkeys((*self.paths, *paths)), dtype=self.dtype, compile=self.compiles
        )

    def train(self, mode: bool = True) -> "FrozenTeacher":
        """Stay in evaluation mode for any ``mode``, so that BatchNorm's statistics stay."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor, *, eager: bool = False) -> ModelOutput:
        """Return logits and features of images ``(B, C, H, W)``, without gradients.

        Args:
            images: float.
            eager: run without compiled code, for a shape that occurs too rarely to compile for it.
        """
        return self.copy_for(images)(images, compile=self.compiles and not eager)

    @torch.no_grad()
    def copy_for(self, images: Tensor) -> InferenceCopy:
        """Return the copy for the device and precision of images ``(B, C, H, W)``; the first call makes it."""
        chosen = self.dtype if images.dtype == torch.float32 else None
        dtype = chosen or compute_dtype(images)
        key = (images.device, dtype)
        if key not in self._copies:
            if self.network.training:  # a caller may have called .train() on the network itself
                self.eval()
            known = self.within_tolerance.get(dtype)
            # Lightning evaluates in inference mode, but training cannot use all tensors that are created in it.
            with torch.inference_mode(False):
                example = images.clone() if images.is_inference() else images
                self._copies[key] = InferenceCopy(self.network, self.paths, example, dtype, within_tolerance=known)
            self.within_tolerance[dtype] = self._copies[key].within_tolerance
        return self._copies[key]

    @property
    def digest(self) -> str:
        """Digest of the network's structure, weights and statistics: it identifies the function that they compute."""
        # Marks of maps compute nothing; without them a network has the digest that it had before they were introduced.
        lines = (line for line in repr(self.network).splitlines() if not line.endswith(f": {Preactivation()}"))
        digest = hashlib.sha256("\n".join(lines).encode())
        for name, tensor in (*self.network.named_parameters(), *self.network.named_buffers()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()


def default_min_accuracy(num_classes: int) -> float:
    """Return the accuracy below which a teacher counts as untrained: twice chance level; for two classes 0.75."""
    return Classification().least_score(num_classes)


def score(teacher: FrozenTeacher, loader: Iterable[Any], device: torch.device, task: Task) -> float:
    """Return the teacher's score on a loader of ``(inputs, labels, ...)``, for example its accuracy in [0, 1].

    Raises:
        InputError: a logit is NaN or infinite.
    """
    refusal = "teacher: its logits are NaN or infinite; use another checkpoint or precision=32-true"
    found = measured(lambda images: teacher(images, eager=True).logits, loader, device, task, refusal=refusal)
    return found[task.score.name]


def check_accuracy(value: float, *, minimum: float, source: str, score: Score | None = None) -> None:
    """Refuse a teacher at chance level.

    Args:
        value: score on validation images.
        minimum: smallest accepted value.
        source: name or file of the teacher, for the message.
        score: the metric; default the accuracy.

    Raises:
        InputError: a score that is worse than the minimum.
    """
    score = score or Score()
    if score.better(minimum, value):
        side = "below" if score.higher else "above"
        raise InputError(
            f"teacher {source}: {score.label} {score.text(value)} on these data is {side} "
            f"teacher.min_accuracy={minimum:.3g}; "
            "is it trained on these classes, in this order, with this normalization (teacher.mean, teacher.std)?"
        )
