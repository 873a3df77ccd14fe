"""The frozen teacher: evaluated, never trained, and in no checkpoint, optimizer or DDP bucket."""

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from stkd_lightning.models.feature_hooks import check_paths
from stkd_lightning.models.weights import load_weights
from stkd_lightning.tasks.base import Score, Task
from stkd_lightning.tasks.classification import Classification
from stkd_lightning.tasks.types import ModelOutput
from stkd_lightning.teacher.inference_copy import InferenceCopy, compute_dtype
from stkd_lightning.utilities.errors import InputError

__all__ = ["FrozenTeacher", "check_accuracy", "default_min_accuracy", "load_weights"]


class FrozenTeacher(nn.Module):
    """A trained network that answers and never changes.

    The network given stays where it is, bit for bit. An ``InferenceCopy`` of it is made at the first call on a device
    and in a precision: BatchNorm folded, channels last, in the precision that autocast asks for.

    Args:
        network: trained classifier, images ``(B, C, H, W)`` to logits ``(B, K)``.
        features: module paths whose outputs are kept; see ``FeatureTap``.
        dtype: precision for float32 images; ``None``: autocast's, where there is autocast.
        compile: generate code with the weights as constants, for batches of one shape.

    Attributes:
        within_tolerance: by precision, whether answers in it were found close enough to exact ones.

    Raises:
        InputError: a feature path that is not there.

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
        """Return a teacher of the same network that keeps further outputs."""
        return FrozenTeacher(
            self.network, dict.fromkeys((*self.paths, *paths)), dtype=self.dtype, compile=self.compiles
        )

    def train(self, mode: bool = True) -> "FrozenTeacher":
        """Stay in evaluation mode, whatever is asked, so that BatchNorm's statistics stay."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor, *, eager: bool = False) -> ModelOutput:
        """Return logits and features of images ``(B, C, H, W)``, without gradients.

        Args:
            images: float.
            eager: without compiled code, for a shape that occurs too rarely to be compiled for.
        """
        own = self.dtype if images.dtype == torch.float32 else None
        kind = (images.device, own or compute_dtype(images))
        if kind not in self._copies:
            if self.network.training:  # somebody has called .train() on the network itself
                self.eval()
            known = self.within_tolerance.get(kind[1])
            self._copies[kind] = InferenceCopy(self.network, self.paths, images, kind[1], within_tolerance=known)
            self.within_tolerance[kind[1]] = self._copies[kind].within_tolerance
        return self._copies[kind](images, compile=self.compiles and not eager)

    @property
    def digest(self) -> str:
        """What stands for the function that the network computes: of its structure, weights and statistics."""
        digest = hashlib.sha256(repr(self.network).encode())
        for name, tensor in (*self.network.named_parameters(), *self.network.named_buffers()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()


def default_min_accuracy(num_classes: int) -> float:
    """Return the accuracy below which a teacher counts as untrained: twice chance; for two classes 0.75."""
    return Classification().least_score(num_classes)


def score(teacher: FrozenTeacher, loader: Iterable[Any], device: torch.device, task: Task) -> float:
    """Return the teacher's score on a loader of ``(inputs, labels, ...)``, for example its accuracy in [0, 1]."""
    metrics = task.metrics().to(device)
    for inputs, labels, *_ in loader:
        metrics.update(teacher(inputs.to(device), eager=True).logits, labels.to(device))
    return float(metrics.compute(with_teacher=False)[task.score.name])


def check_accuracy(value: float, *, minimum: float, source: str, score: Score | None = None) -> None:
    """Refuse a teacher that has not learned its task.

    Args:
        value: its score on validation images.
        minimum: the least that is accepted.
        source: where it came from, for the message.
        score: the metric; default the accuracy.

    Raises:
        InputError: a score that is worse than the minimum.
    """
    score = score or Score()
    if score.better(minimum, value):
        side = "below" if score.higher else "above"
        raise InputError(
            f"teacher {source}: {score.name} {score.text(value)} on validation images is {side} "
            f"teacher.min_accuracy={minimum:.3g}; "
            "is it trained on these classes, in this order, with this normalization (teacher.mean, teacher.std)?"
        )
