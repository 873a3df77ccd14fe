"""Classification: one label for each sample."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric

from stkd_lightning.tasks.base import Column, Metrics, Task
from stkd_lightning.tasks.calibration import CalibrationError
from stkd_lightning.tasks.types import UNLABELLED, MixedTarget
from stkd_lightning.utilities.dtypes import at_least_float32


class ClassificationMetrics(Metrics):
    """Accuracy and calibration of a student, and its likeness to a teacher where there is one.

    - ``accuracy``, ``top5``: share in [0, 1] whose label is the first, or among the first five.
    - ``cross_entropy``: nats per example.
    - ``calibration_error``: expected calibration error in [0, 1], 15 bins (Guo et al. 2017, arXiv:1706.04599, Eq. 3).
    - ``agreement``: share whose first class is the teacher's.
    - ``teacher_kl``: KL(teacher || student) at temperature 1, nats per example.
    - ``teacher_accuracy``: the teacher's own.
    """

    def __init__(self) -> None:
        super().__init__()
        means = ("accuracy", "top5", "cross_entropy", "agreement", "teacher_kl", "teacher_accuracy")
        # torchmetrics' own checks of the values would have the host wait for the device at each update.
        self.means = nn.ModuleDict({name: MeanMetric(nan_strategy="disable") for name in means})
        self.calibration = CalibrationError()

    def update(self, student: Tensor, labels: Tensor, teacher: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            student: logits ``(B, K)``.
            labels: ``(B,)``.
            teacher: logits ``(B, K)``.
        """
        student = at_least_float32(student)
        log_student = F.log_softmax(student, dim=1)
        first = student.argmax(1)
        top5 = student.topk(min(5, student.shape[1]), dim=1).indices
        self._add("accuracy", (first == labels).float())
        self._add("top5", (top5 == labels[:, None]).any(1).float())
        self._add("cross_entropy", F.nll_loss(log_student, labels, reduction="none"))
        self.calibration.update(student, labels)
        if teacher is not None:
            log_teacher = F.log_softmax(at_least_float32(teacher), dim=1)
            self._add("agreement", (teacher.argmax(1) == first).float())
            self._add("teacher_kl", F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(1))
            self._add("teacher_accuracy", (teacher.argmax(1) == labels).float())

    def _add(self, name: str, values: Tensor) -> None:
        cast(MeanMetric, self.means[name]).update(values)

    def compute(self, *, with_teacher: bool) -> dict[str, Tensor]:
        """Return the metrics by name, over all ranks."""
        of_teacher = ("agreement", "teacher_kl", "teacher_accuracy")
        names = [name for name in self.means if with_teacher or name not in of_teacher]
        values = {name: cast(MeanMetric, self.means[name]).compute() for name in names}
        undefined = values["cross_entropy"].isnan()  # as after logits of NaN, whose confidence has no bin
        values["calibration_error"] = self.calibration.compute().masked_fill(undefined, torch.nan)
        return {name: value.to(torch.float32) for name, value in values.items()}

    def reset(self) -> None:
        """Forget all batches."""
        for metric in (*self.means.values(), self.calibration):
            cast(Metric, metric).reset()


@dataclass(frozen=True)
class Classification(Task):
    """One label ``(B,)`` for each sample, logits ``(B, K)``; the accuracy selects.

    Attributes:
        unlabelled: some training samples have the label ``UNLABELLED``.
    """

    unlabelled: bool = False

    name = "classification"
    columns = (
        Column("top-1", "accuracy"),
        Column("selected", "accuracy", student="selected"),
        Column("top-5", "top5"),
        Column("ECE", "calibration_error", percent=False, digits=3),
        Column("agree", "agreement"),
    )
    has_pictures = True

    def metrics(self) -> ClassificationMetrics:
        """Return new ``ClassificationMetrics``."""
        return ClassificationMetrics()

    def target(self, labels: Tensor, weights: Tensor) -> MixedTarget:
        """Return the target of mixed samples; one is labelled if all its partners of positive weight are."""
        if not self.unlabelled:
            return super().target(labels, weights)
        without = labels == UNLABELLED
        labelled = ~(without & (weights > 0)).any(1)
        return MixedTarget(labels.masked_fill(without, 0), weights, labelled=labelled)

    def logits_shape(self, num_classes: int, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return ``(K,)``."""
        return (num_classes,)

    def least_score(self, num_classes: int) -> float:
        """Return twice the accuracy of chance; for two classes 0.75."""
        return min(2 / num_classes, (1 + 1 / num_classes) / 2)
