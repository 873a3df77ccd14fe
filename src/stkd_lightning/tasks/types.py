"""The values that every part exchanges: a batch, a network's output for it, and its target."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from stkd_lightning.utilities.distributed import gather, world

Mean = Callable[[Tensor], Tensor]  # from one value for each row (N,) to a scalar
UNLABELLED = -1  # in place of the label of a training image that has none


class Batch(NamedTuple):
    """Normalized inputs with their labels, as a loader yields them.

    A plain ``(inputs, labels)`` pair of a user's own loader becomes one by ``Batch(*pair)``.

    Attributes:
        inputs: ``(B, ...)`` float: images ``(B, C, H, W)`` of any sides, signals ``(B, T)`` or ``(B, C, T)``.
        labels: ``(B, ...)`` int64, of the task's shape: ``(B,)`` for classification.
        indices: ``(B,)`` int64 positions in the data set, or ``None`` where the loader does not know them.
        lengths: ``(B,)`` int64 valid positions of inputs that were padded, or ``None`` where all are valid.
    """

    inputs: Tensor
    labels: Tensor
    indices: Tensor | None = None
    lengths: Tensor | None = None

    @property
    def images(self) -> Tensor:
        """The inputs, where they are images."""
        return self.inputs


@dataclass(frozen=True)
class ModelOutput:
    """A network's output for a batch.

    Attributes:
        logits: ``(B, K)``, or of the task's shape.
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
        labels: ``(B, k)`` int64; with one label for each position ``(B, k, ...)``.
        weights: ``(B, k)`` float, each row non-negative with sum 1; or one for each position, in the labels' shape.
            An unmixed batch has k = 1 and weight 1.
        ignored: label of positions that have no class; ``None`` where every position has one.
        class_weights: ``(K,)`` weights of the classes in the cross-entropy with the label; ``None``: all are equal.
        mask: ``(B, L)`` bool: positions of the input that are no padding; the first of each sample. ``None``: all.
        clean: ``(B,)`` bool: samples that the draw left unmixed, whatever their weights are; ``None``: all if k = 1,
            else none.
        labelled: ``(B,)`` bool: samples whose labels are all known; ``None``: all. The others have labels of 0, which
            mean nothing.

    Example:
        >>> import torch
        >>> from stkd_lightning import MixedTarget
        >>> target = MixedTarget(labels=torch.tensor([[0, 2]]), weights=torch.tensor([[0.75, 0.25]]))
        >>> target.dense(num_classes=4)
        tensor([[0.7500, 0.0000, 0.2500, 0.0000]])
    """

    labels: Tensor
    weights: Tensor
    ignored: int | None = None
    class_weights: Tensor | None = None
    mask: Tensor | None = None
    clean: Tensor | None = None
    labelled: Tensor | None = None

    @classmethod
    def unmixed(cls, labels: Tensor) -> "MixedTarget":
        """Hold labels ``(B, ...)`` as they are: k = 1, weight 1."""
        return cls(labels[:, None], labels.new_ones((len(labels), 1), dtype=torch.float32))

    def dense(self, num_classes: int) -> Tensor:
        """Return labels ``(B, k)`` as distributions over the classes, ``(B, K)``; equal labels add up."""
        zeros = self.weights.new_zeros(len(self.labels), num_classes)
        return zeros.scatter_add(1, self.labels, self.weights)

    def correct(self, num_classes: int) -> Tensor:
        """Return the set of correct classes of labels ``(B, k)``, ``(B, K)`` bool: those whose weight is above 0."""
        return self.dense(num_classes) > 0

    def rows(self, student: Tensor, teacher: Tensor | None = None) -> "Rows":
        """Return the rows that a loss on logits compares: one for each sample, or for each of its positions.

        Args:
            student: logits ``(B, K)``, or ``(B, K, ...)`` with the labels' positions.
            teacher: likewise; ``None`` where there is none.

        Raises:
            ValueError: logits and labels whose positions differ.
        """
        if student.shape[:1] + student.shape[2:] != self.labels.shape[:1] + self.labels.shape[2:]:
            raise ValueError(
                f"logits (B, K, ...) and labels (B, k, ...) need equal positions: {tuple(student.shape)}, "
                f"{tuple(self.labels.shape)}"
            )
        if self.labels.ndim == 2 and self.ignored is None:
            return Rows(student, teacher, self)
        positions = (1,) * (self.labels.ndim - self.weights.ndim)
        weights = flat_rows(self.weights.reshape(*self.weights.shape, *positions).expand(self.labels.shape))
        labels, clean = flat_rows(self.labels), self.clean
        if clean is not None:
            clean = clean.view(-1, *(1,) * (self.labels.ndim - 2)).expand_as(self.labels[:, 0]).flatten()
        target = MixedTarget(labels, weights, class_weights=self.class_weights, clean=clean)
        other = None if teacher is None else flat_rows(teacher)
        if self.ignored is None:
            return Rows(flat_rows(student), other, target)
        without_class = labels == self.ignored
        target = replace(target, labels=labels.masked_fill(without_class, 0))
        valid = ~(without_class & (weights > 0)).any(1)
        return Rows(flat_rows(student), other, target, valid, valid_count(valid))


def valid_count(valid: Tensor) -> Tensor:
    """Return the mean over ranks of the number of valid rows, at least 1 / ranks."""
    return gather(valid.sum()[None]).sum().clamp(min=1) / world()[1]


def flat_rows(values: Tensor) -> Tensor:
    """Return ``(B, K, ...)`` as ``(N, K)``: one row for each position of each sample; on CPUs stored class by class."""
    if values.ndim == 2:
        return values
    if values.device.type == "cpu":  # where losses on rows of few classes would be many times slower
        return values.transpose(0, 1).flatten(1).contiguous().T
    return values.movedim(1, -1).reshape(-1, values.shape[1])


@dataclass(frozen=True)
class Rows:
    """The rows that losses on logits compare, each with a mixed label; their number N does not depend on values.

    Attributes:
        student: logits ``(N, K)``; carry the gradient.
        teacher: logits ``(N, K)``; ``None`` where there is no teacher.
        target: labels ``(N, k)`` and weights ``(N, k)``.
        valid: ``(N,)`` bool, false for rows that are ignored; ``None`` where all are valid.
        count: mean over ranks of the number of valid rows, at least 1 / ranks; ``None`` where all are valid.
        scale: factor of the mean over rows.
    """

    student: Tensor
    teacher: Tensor | None
    target: MixedTarget
    valid: Tensor | None = None
    count: Tensor | None = None
    scale: float = 1.0

    def mean(self, values: Tensor) -> Tensor:
        """Average values ``(N,)`` over the valid rows, and scale the mean.

        Over several ranks the sum is divided by the valid rows of the global batch, so that the mean over ranks, as DDP
        takes it, is that of one process with the whole batch.
        """
        if self.valid is None or self.count is None:
            mean = values.mean()
        else:
            mean = values.where(self.valid, 0).sum() / self.count
        return mean if self.scale == 1 else self.scale * mean

    def with_label(self) -> "Rows":
        """Return the rows for means over those whose label is known; a mean of no rows is 0."""
        labelled = self.target.labelled
        return self if labelled is None else self._only(labelled)

    def split(self) -> "tuple[Rows, Rows]":
        """Return the rows twice: for means over the clean ones, and over the mixed ones; a mean of no rows is 0."""
        clean = self.target.clean
        if clean is None:
            clean = torch.full_like(self.target.labels[:, 0], self.target.labels.shape[1] == 1, dtype=torch.bool)
        return self._only(clean), self._only(~clean)

    def _only(self, chosen: Tensor) -> "Rows":
        valid = chosen if self.valid is None else chosen & self.valid
        return replace(self, valid=valid, count=valid_count(valid))


class VirtualBatch(NamedTuple):
    """Inputs that both networks see, ``(B, ...)``, and their mixed label."""

    inputs: Tensor
    target: MixedTarget

    @property
    def images(self) -> Tensor:
        """The inputs, where they are images."""
        return self.inputs


@dataclass(frozen=True)
class StepContext:
    """The place of a batch in a run.

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
