"""The frozen teacher: evaluated, never trained, and in no checkpoint, optimizer or DDP bucket."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from stkd_lightning.errors import InputError
from stkd_lightning.models.features import FeatureTap
from stkd_lightning.outputs import Batch, ModelOutput
from stkd_lightning.weights import load_weights

__all__ = ["FrozenTeacher", "check_accuracy", "default_min_accuracy", "load_weights"]


class FrozenTeacher(nn.Module):
    """A trained network that answers and never changes.

    The network given stays where it is, bit for bit. Where images come on another device or in float64, a copy made
    at the first such call answers; half precision is autocast's.

    Args:
        network: trained classifier, images ``(B, C, H, W)`` to logits ``(B, K)``.
        features: module paths whose outputs are kept; see ``FeatureTap``.

    Raises:
        InputError: a feature path that is not there.
    """

    def __init__(self, network: nn.Module, features: Iterable[str] = ()) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.paths = tuple(features)
        self.eval()
        self._tap = FeatureTap(self.network, self.paths)

    def train(self, mode: bool = True) -> "FrozenTeacher":
        """Stay in evaluation mode, whatever is asked, so that BatchNorm's statistics stay."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> ModelOutput:
        """Return logits and features of images ``(B, C, H, W)``, without gradients."""
        if self.network.training:  # somebody has called .train() on the network itself
            self.eval()
        dtype = torch.promote_types(images.dtype, torch.float32)
        parameter = next(self._tap.network.parameters())
        if parameter.device != images.device or parameter.dtype != dtype:
            self._tap = FeatureTap(copy.deepcopy(self.network).to(images.device, dtype), self.paths)
        return self._tap(images.to(dtype))


def default_min_accuracy(num_classes: int) -> float:
    """Return the accuracy below which a teacher is taken for untrained: twice chance; for two classes 0.75."""
    return min(2 / num_classes, (1 + 1 / num_classes) / 2)


def accuracy(teacher: FrozenTeacher, loader: Iterable[Any], device: torch.device) -> float:
    """Return the teacher's top-1 accuracy in [0, 1] on a loader of ``(images, labels, ...)``."""
    correct, total = torch.zeros((), device=device), 0
    for images, labels, *_ in loader:
        batch = Batch(images.to(device), labels.to(device))
        correct += (teacher(batch.images).logits.argmax(1) == batch.labels).sum()
        total += len(labels)
    return float(correct) / max(total, 1)


def check_accuracy(value: float, *, minimum: float, source: str) -> None:
    """Refuse a teacher that has not learned its task.

    Args:
        value: its accuracy on validation images.
        minimum: the least that is accepted; 0 accepts all.
        source: where it came from, for the message.

    Raises:
        InputError: an accuracy below the minimum.
    """
    if value < minimum:
        raise InputError(
            f"teacher {source}: accuracy {value:.1%} on validation images is below teacher.min_accuracy={minimum:.3g}; "
            "is it trained on these classes, in this order, with this normalization (teacher.mean, teacher.std)?"
        )
