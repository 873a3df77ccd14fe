"""Tagging: any number of classes for each sample, independent of each other."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stkd_lightning.tasks.base import ClassMetric, Column, Score, Task
from stkd_lightning.tasks.clips import split_clips
from stkd_lightning.tasks.tagging_metrics import CLASS_AP, UNKNOWN, TaggingMetrics
from stkd_lightning.tasks.types import MixedTarget, Rows
from stkd_lightning.utilities.dtypes import at_least_float32
from stkd_lightning.utilities.errors import InputError


@dataclass(frozen=True)
class TagTarget(MixedTarget):
    """Tags of virtual samples: labels ``(B, k, C)``, 1 for a tag that is present and 0 for one that is absent."""

    def rows(self, student: Tensor, teacher: Tensor | None = None) -> Rows:
        """Return a row ``[0, z]`` for each tag of each sample, whose softmax is the sigmoid of the logit z.

        The mean over rows is scaled by C: a loss is summed over the tags and averaged over the samples.

        Args:
            student: logits ``(B, C)``.
            teacher: logits ``(B, C)``; ``None`` where there is none.

        Raises:
            ValueError: logits of other samples or tags than the labels.
        """
        shape = len(self.labels), *self.labels.shape[2:]
        for logits in (student, teacher):
            if logits is not None and logits.shape != shape:
                raise ValueError(f"logits and labels need equal tags (B, C): {tuple(logits.shape)}, {shape}")
        pairs = [
            None if logits is None else torch.stack([logits.new_zeros(()).expand_as(logits), logits], dim=1)
            for logits in (student, teacher)
        ]
        assert pairs[0] is not None
        return replace(super().rows(pairs[0], pairs[1]), scale=float(shape[1]))


@dataclass(frozen=True)
class Tagging(Task):
    """Labels ``(B, C)`` of 0 and 1, logits ``(B, C)`` of independent tags; the micro-averaged AUPRC selects.

    A label of 255 says that nobody knows; it is ignored.

    Attributes:
        class_names: of the tags, in the order of the labels.
        prevalence: share of the training labels that are 1, which is the AUPRC of chance.

    Raises:
        InputError: no tag.
    """

    class_names: tuple[str, ...]
    prevalence: float = 0.0

    name = "tagging"
    score = Score("micro_auprc")
    columns = (
        Column("micro-AUPRC", "micro_auprc"),
        Column("selected", "micro_auprc", student="selected"),
        Column("macro-AUPRC", "macro_auprc"),
        Column("F1", "f1"),
        Column("agree", "agreement"),
    )
    of_classes = ClassMetric(CLASS_AP, "average precision")
    has_pictures = True
    exclusive = False

    @classmethod
    def of(cls, class_names: tuple[str, ...], labels: Tensor) -> "Tagging":
        """Return the task of training labels ``(N, C)``."""
        return cls(class_names, float((labels == 1).sum() / (labels != UNKNOWN).sum().clamp(min=1)))

    def __post_init__(self) -> None:
        if not self.class_names:
            raise InputError("tagging: needs a tag at least")

    def metrics(self) -> TaggingMetrics:
        """Return new ``TaggingMetrics``."""
        return TaggingMetrics(self.class_names)

    def logits_shape(self, num_classes: int, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return ``(C,)``."""
        return (num_classes,)

    def least_score(self, num_classes: int) -> float:
        """Return twice the AUPRC of chance, or what is half-way from it to 1 if that is less."""
        return min(2 * self.prevalence, (1 + self.prevalence) / 2)

    def row_classes(self, num_classes: int) -> int:
        """Return 2: a tag is present or absent."""
        return 2

    def target(self, labels: Tensor, weights: Tensor) -> TagTarget:
        """Return the target of mixed samples, with labels ``(B, k, C)`` and weights ``(B, k)``."""
        return TagTarget(labels, weights, ignored=UNKNOWN)

    def seen(self, target: MixedTarget, inputs: Tensor) -> MixedTarget:
        """Return the target with the mask of clips ``(B, 2, T)``; see ``split_clips``."""
        mask = split_clips(inputs)[1]
        return target if mask is None else replace(target, mask=mask)

    def entropy(self, logits: Tensor) -> Tensor:
        """Return the sum of the entropies of the tags in nats ``(B,)``."""
        pairs = at_least_float32(torch.stack([torch.zeros_like(logits), logits], dim=1))
        return -(pairs.softmax(1) * pairs.log_softmax(1)).sum((1, 2))
