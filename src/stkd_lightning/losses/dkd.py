"""Decoupled Knowledge Distillation: Zhao et al. 2022, Sec. 3 (arXiv:2203.08679)."""

import torch
from torch import Tensor

from stkd_lightning.losses.base import Loss, Terms, check_logits, paired_rows
from stkd_lightning.losses.functional import warmup_factor
from stkd_lightning.losses.stkd import divergence_parts
from stkd_lightning.tasks.types import Mean, MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation


def decoupled(
    student: Tensor,
    teacher: Tensor,
    correct: Tensor,
    *,
    temperature: float = 4.0,
    target_weight: float = 1.0,
    incorrect_weight: float = 8.0,
    standardize: bool = False,
    mean: Mean = torch.mean,
) -> Tensor:
    """``T**2 (target_weight * TCKD + incorrect_weight * NCKD)`` (Eq. 7).

    TCKD is the divergence between the target class and all others together; NCKD is the divergence among the others,
    renormalized. It is STKD's split with a weight for each part. With a mixed label, TCKD keeps each correct class
    separate.

    Args:
        student: logits ``(B, K)``; carries the gradient.
        teacher: logits ``(B, K)``; treated as a constant.
        correct: bool ``(B, K)``; the classes with positive weight in the label.
        temperature: T > 0.
        target_weight: alpha >= 0.
        incorrect_weight: beta >= 0.
        standardize: whether the logits of each sample are standardized first (``functional.standardized``).
        mean: mean over the samples ``(B,)``; a task that ignores some rows passes a mean over its valid rows.

    Returns:
        Scalar, T**2 * nats per example, averaged over the batch.

    Raises:
        ValueError: the shapes differ.
    """
    check_logits(student, teacher)
    if correct.shape != student.shape:
        raise ValueError(f"correct classes need the logits' shape {tuple(student.shape)}: {tuple(correct.shape)}")
    target, within, _ = divergence_parts(student, teacher, correct, temperature=temperature, standardize=standardize)
    return temperature**2 * mean(target_weight * target + incorrect_weight * within)


class DKDLoss(Loss):
    """``decoupled`` with a linear warm-up; term ``dkd``.

    The literature adds cross-entropy of weight 1. Its weight of the incorrect classes depends on the pair: 8 for
    resnet32x4 to resnet8x4, 6 for vgg13 to vgg8 and wrn_40_2 to wrn_16_2, 2 for resnet56 to resnet20 and resnet110 to
    resnet32.

    Args:
        temperature: T > 0.
        target_weight: >= 0.
        incorrect_weight: >= 0.
        warmup: share in [0, 1] of the run over which the term grows linearly; 20 of 240 epochs in the literature.
        standardize: whether the term compares standardized logits (arXiv:2403.01427).

    Raises:
        InputError: an argument is outside its range.
    """

    smallest_classes = 3

    traceable = True

    def __init__(
        self,
        *,
        temperature: float = 4.0,
        target_weight: float = 1.0,
        incorrect_weight: float = 8.0,
        warmup: float = 20 / 240,
        standardize: bool = False,
    ) -> None:
        super().__init__()
        self.temperature = validation.positive("loss.temperature", temperature)
        self.target_weight = validation.non_negative("loss.target_weight", target_weight)
        self.incorrect_weight = validation.non_negative("loss.incorrect_weight", incorrect_weight)
        self.warmup = validation.unit_interval("loss.warmup", warmup)
        self.standardize = validation.switch("loss.standardize", standardize)
        self.traceable = self.traceable and self.warmup == 0  # the warm-up reads the epoch

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"dkd"}`` of the rows of logits; without a context there is no warm-up."""
        rows, teacher_rows = paired_rows(student, teacher, target, self)
        value = decoupled(
            rows.student,
            teacher_rows,
            rows.target.correct(rows.student.shape[1]),
            temperature=self.temperature,
            target_weight=self.target_weight,
            incorrect_weight=self.incorrect_weight,
            standardize=self.standardize,
            mean=rows.mean,
        )
        return {"dkd": warmup_factor(context, self.warmup) * value}
