"""DIST, Knowledge Distillation from a Stronger Teacher: Huang et al. 2022, Sec. 3 (arXiv:2205.10536)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from stkd_lightning.losses.base import Loss, Terms, check_logits, full_precision, paired_rows
from stkd_lightning.losses.feature_loss import check_pairs, global_batch
from stkd_lightning.losses.functional import unit_deviations
from stkd_lightning.tasks.types import Mean, MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.distributed import gather


@full_precision
def inter_class(student: Tensor, teacher: Tensor, *, temperature: float = 4.0, mean: Mean = torch.mean) -> Tensor:
    """``T**2`` times the mean over samples of 1 - Pearson's correlation of both networks' class probabilities (Eq. 7).

    Args:
        student: logits ``(B, K)``; carries the gradient.
        teacher: logits ``(B, K)``; treated as a constant.
        temperature: T > 0 of the softmaxes.
        mean: mean over the samples ``(B,)``; a task that ignores some rows passes a mean over its valid rows.

    Returns:
        Scalar in ``T**2 [0, 2]``.

    Raises:
        ValueError: the shapes are not equal, or not ``(B, K)``.
    """
    student, teacher = _probabilities(student, teacher, temperature)
    return temperature**2 * mean(1 - _correlation(student, teacher))


@full_precision
def intra_class(student: Tensor, teacher: Tensor, *, temperature: float = 4.0, valid: Tensor | None = None) -> Tensor:
    """``T**2`` times the mean over classes of 1 - Pearson's correlation of their probabilities over the batch (Eq. 9).

    Args:
        student: logits ``(B, K)``; carries the gradient.
        teacher: logits ``(B, K)``; treated as a constant.
        temperature: T > 0 of the softmaxes.
        valid: bool ``(B,)``; the samples to use; ``None``: all samples.

    Returns:
        Scalar in ``T**2 [0, 2]``.

    Raises:
        InputError: the batch has one sample.
        ValueError: the shapes are not equal, or not ``(B, K)``.
    """
    check_pairs(student, teacher)
    probabilities = _probabilities(student, teacher, temperature)
    student, teacher = probabilities if valid is None else (_neutralized(p, valid) for p in probabilities)
    return temperature**2 * (1 - _correlation(student.T, teacher.T)).mean()


def _probabilities(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    check_logits(student, teacher)
    return F.softmax(student / temperature, dim=1), F.softmax(teacher.detach() / temperature, dim=1)


def _neutralized(probabilities: Tensor, valid: Tensor) -> Tensor:
    """Replace invalid rows by the mean of the valid rows, which does not change the correlations of the valid rows."""
    valid_rows = probabilities * valid[:, None]
    return torch.where(valid[:, None], probabilities, valid_rows.sum(0) / valid.sum().clamp(min=1))


def _correlation(left: Tensor, right: Tensor) -> Tensor:
    """Return Pearson's correlation between corresponding rows, ``(B,)``."""
    return (unit_deviations(left) * unit_deviations(right)).sum(1)


class DISTLoss(Loss):
    """Weighted ``inter_class`` and, over the global batch, ``intra_class``; terms ``dist_inter`` and ``dist_intra``.

    The paper adds cross-entropy of weight 1; on CIFAR-100 it uses weights 2 and 2, and T = 4. The authors' code
    correlates classes over each rank's own batch, and adds 1e-8 to the product of the norms in a correlation. With 64
    samples of 100 classes this changes value and gradient by less than 1e-4 of themselves; with 4 samples of 1000
    classes, most of which hardly vary over the batch, the gradient of ``intra_class`` by tens of percent.

    Args:
        inter_weight: >= 0.
        intra_weight: >= 0.
        temperature: T > 0.

    Raises:
        InputError: an argument is outside its range.
    """

    traceable = True
    needs_labels = False
    smallest_batch = 2
    smallest_classes = 3  # with two classes, the correlation of a sample's probabilities is 1 or -1

    def __init__(self, *, inter_weight: float = 2.0, intra_weight: float = 2.0, temperature: float = 4.0) -> None:
        super().__init__()
        self.inter_weight = validation.non_negative("loss.inter_weight", inter_weight)
        self.intra_weight = validation.non_negative("loss.intra_weight", intra_weight)
        self.temperature = validation.positive("loss.temperature", temperature)

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return both weighted terms of the rows of logits."""
        rows, teacher_rows = paired_rows(student, teacher, target, self)
        inter = inter_class(rows.student, teacher_rows, temperature=self.temperature, mean=rows.mean)
        valid = None if rows.valid is None else gather(rows.valid)
        intra = intra_class(
            global_batch(rows.student), global_batch(teacher_rows), temperature=self.temperature, valid=valid
        )
        return {"dist_inter": self.inter_weight * inter, "dist_intra": self.intra_weight * intra}
