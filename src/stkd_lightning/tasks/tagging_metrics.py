"""Metrics of tagging: areas under precision-recall curves of independent classes."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric
from torchmetrics.functional.classification import binary_average_precision, binary_precision_recall_curve
from torchmetrics.utilities import dim_zero_cat

from stkd_lightning.tasks.base import Metrics
from stkd_lightning.tasks.segmentation_metrics import loggable
from stkd_lightning.utilities.dtypes import at_least_float32

UNKNOWN = 255  # the label of a tag of which nobody knows whether it is present
CLASS_AP = "ap/"  # start of the names of the metrics of single tags


class TagScores(Metric):
    """The scores and labels of all samples and ranks; exact areas need them all."""

    full_state_update = False
    scores: list[Tensor]
    labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add samples.

        Args:
            logits: ``(B, C)``.
            labels: ``(B, C)`` of 0, 1 and 255.
        """
        self.scores.append(at_least_float32(logits).sigmoid())
        self.labels.append(labels.to(torch.uint8))

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return probabilities and labels ``(N, C)``."""
        return dim_zero_cat(self.scores), dim_zero_cat(self.labels)


def average_precision(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the average precision, a sum of steps under the precision-recall curve; NaN without a positive.

    Args:
        scores: ``(N,)`` in [0, 1].
        labels: ``(N,)`` of 0, 1 and 255; those of 255 are left out.
    """
    known = labels != UNKNOWN
    scores, labels = scores[known], labels[known].long()
    if not labels.any():
        return scores.new_full((), torch.nan)
    return binary_average_precision(scores, labels, validate_args=False)


def trapezoidal_area(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the area under the linear interpolation of the precision-recall curve, as DCASE 2019 task 5 reports it.

    It exceeds the average precision where the curve falls. Arguments: as in ``average_precision``.
    """
    known = labels != UNKNOWN
    scores, labels = scores[known], labels[known].long()
    if not labels.any():
        return scores.new_full((), torch.nan)
    precision, recall, _ = binary_precision_recall_curve(scores, labels, validate_args=False)
    return torch.trapezoid(precision.flip(0), recall.flip(0))


class TaggingMetrics(Metrics):
    """Figures of a student over an evaluation, and its likeness to a teacher where there is one.

    - ``micro_auprc``: average precision of the tags of all samples together; ``macro_auprc``: mean over the tags that
      occur of ``ap/TAG``, the average precision of a tag.
    - ``micro_auprc_trapezoidal``, ``macro_auprc_trapezoidal``: the same by trapezoids; see ``trapezoidal_area``.
    - ``f1``: of all tags together, present from a probability of 0.5.
    - ``cross_entropy``: nats per sample, summed over the tags.
    - ``agreement``: share of the tags that student and teacher both call present, or both absent.
    - ``teacher_kl``: KL(teacher || student) at temperature 1, nats per sample, summed over the tags.
    - ``teacher_micro_auprc``: the teacher's own.

    Args:
        class_names: of the tags, in the order of the labels.
    """

    def __init__(self, class_names: tuple[str, ...]) -> None:
        super().__init__()
        self.class_names = class_names
        means = ("cross_entropy", "agreement", "teacher_kl")
        self.means = nn.ModuleDict({name: MeanMetric(nan_strategy="disable") for name in means})
        self.student, self.teacher = TagScores(), TagScores()

    def update(self, student: Tensor, labels: Tensor, teacher: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            student: logits ``(B, C)``.
            labels: ``(B, C)`` of 0, 1 and 255.
            teacher: logits ``(B, C)``.
        """
        student, known = at_least_float32(student), labels != UNKNOWN
        self.student.update(student, labels)
        entropy = F.binary_cross_entropy_with_logits(student, labels.where(known, 0).to(student), reduction="none")
        self._add("cross_entropy", entropy.where(known, 0).sum(1))
        if teacher is not None:
            teacher = at_least_float32(teacher)
            self.teacher.update(teacher, labels)
            self._add("agreement", ((student > 0) == (teacher > 0)).float().mean(1))
            self._add("teacher_kl", _binary_kl(teacher, student).sum(1))

    def _add(self, name: str, values: Tensor) -> None:
        cast(MeanMetric, self.means[name]).update(values)

    def compute(self, *, with_teacher: bool) -> dict[str, Tensor]:
        """Return the metrics by name, over all ranks."""
        scores, labels = self.student.compute()
        areas = [[area(*pair) for pair in zip(scores.T, labels.T, strict=True)] for area in AREAS]
        single, trapezoidal = (torch.stack(values) for values in areas)
        values = {
            "micro_auprc": average_precision(scores.flatten(), labels.flatten()),
            "macro_auprc": single.nanmean(),
            "micro_auprc_trapezoidal": trapezoidal_area(scores.flatten(), labels.flatten()),
            "macro_auprc_trapezoidal": trapezoidal.nanmean(),
            "f1": f1(scores, labels),
            "cross_entropy": cast(MeanMetric, self.means["cross_entropy"]).compute(),
        }
        if with_teacher:
            scores, labels = self.teacher.compute()
            values["agreement"] = cast(MeanMetric, self.means["agreement"]).compute()
            values["teacher_kl"] = cast(MeanMetric, self.means["teacher_kl"]).compute()
            values["teacher_micro_auprc"] = average_precision(scores.flatten(), labels.flatten())
        values |= {f"{CLASS_AP}{loggable(name)}": ap for name, ap in zip(self.class_names, single, strict=True)}
        return {name: value.to(torch.float32) for name, value in values.items()}

    def reset(self) -> None:
        """Drop all batches."""
        for metric in (*self.means.values(), self.student, self.teacher):
            cast(Metric, metric).reset()


AREAS = (average_precision, trapezoidal_area)


def f1(scores: Tensor, labels: Tensor) -> Tensor:
    """Return ``2 TP / (2 TP + FP + FN)`` of all known tags, present from a score of 0.5; NaN if none is present."""
    known = labels != UNKNOWN
    predicted, present = (scores >= 0.5) & known, (labels == 1) & known
    correct = (predicted & present).sum()
    return 2 * correct.float() / (predicted.sum() + present.sum())


def _binary_kl(teacher: Tensor, student: Tensor) -> Tensor:
    probability = teacher.sigmoid()
    present = F.logsigmoid(teacher) - F.logsigmoid(student)
    absent = F.logsigmoid(-teacher) - F.logsigmoid(-student)
    return probability * present + (1 - probability) * absent
