"""The values that every part exchanges: a batch, what a network says of it, and what it should have said."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Normalized images with their labels, as a loader yields them.

    A plain ``(images, labels)`` pair of a user's own loader becomes one by ``Batch(*pair)``.

    Attributes:
        images: ``(B, C, H, W)`` float.
        labels: ``(B,)`` int64.
        indices: ``(B,)`` int64 positions in the data set, or ``None`` where the loader does not know them.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor | None = None


@dataclass(frozen=True)
class ModelOutput:
    """What a network says of a batch.

    Attributes:
        logits: ``(B, K)``.
        features: outputs of inner modules by their path, for example ``{"layer3": (B, C, H, W)}``.

    Example:
        >>> import torch
        >>> from stkd_lightning import ModelOutput
        >>> output = ModelOutput(torch.zeros(2, 10), {"layer3": torch.zeros(2, 64, 2, 2)})
        >>> output.features["layer3"].shape
        torch.Size([2, 64, 2, 2])
    """

    logits: Tensor
    features: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class MixedTarget:
    """Labels of virtual samples: each is a convex combination of k labels.

    Attributes:
        labels: ``(B, k)`` int64.
        weights: ``(B, k)`` float, each row non-negative with sum 1. An unmixed batch has k = 1 and weight 1.

    Example:
        >>> import torch
        >>> from stkd_lightning import MixedTarget
        >>> target = MixedTarget(labels=torch.tensor([[0, 2]]), weights=torch.tensor([[0.75, 0.25]]))
        >>> target.dense(num_classes=4)
        tensor([[0.7500, 0.0000, 0.2500, 0.0000]])
    """

    labels: Tensor
    weights: Tensor

    @classmethod
    def unmixed(cls, labels: Tensor) -> "MixedTarget":
        """Hold ``(B,)`` labels as they are: k = 1, weight 1."""
        return cls(labels[:, None], torch.ones_like(labels, dtype=torch.float32)[:, None])

    def dense(self, num_classes: int) -> Tensor:
        """Return the mixed label as a distribution over the classes, ``(B, K)``; equal labels add up."""
        zeros = self.weights.new_zeros(len(self.labels), num_classes)
        return zeros.scatter_add(1, self.labels, self.weights)

    def correct(self, num_classes: int) -> Tensor:
        """Return the set of correct classes, ``(B, K)`` bool: those whose weight is above 0."""
        return self.dense(num_classes) > 0


class VirtualBatch(NamedTuple):
    """Images that both networks see, ``(B, C, H, W)``, and their mixed label."""

    images: Tensor
    target: MixedTarget


@dataclass(frozen=True)
class StepContext:
    """Where in a run a batch stands.

    Attributes:
        epoch: counted from 0.
        max_epochs: length of the run in epochs.
        step: index of the batch within its epoch.
        indices: ``(B,)`` positions of the samples in the data set, where they are known.
    """

    epoch: int
    max_epochs: int
    step: int
    indices: Tensor | None = None
