"""Normalized knowledge distillation: Yang et al. 2023, Sec. 3 (arXiv:2303.13005)."""

import torch
from torch import Tensor

from stkd_lightning.losses.base import Loss, Terms, check_logits, paired_rows
from stkd_lightning.losses.functional import softened
from stkd_lightning.tasks.types import Mean, MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation


def normalized_kd(
    student: Tensor,
    teacher: Tensor,
    target: MixedTarget,
    *,
    temperature: float = 3.0,
    incorrect_weight: float = 3.5,
    mean: Mean = torch.mean,
) -> Tensor:
    """``-p_y log q_y - incorrect_weight * T**2 * sum_{k != y} p_hat_k log q_hat_k``.

    p and q are the softmaxes of teacher and student at temperature 1; hats are those at temperature T over the
    incorrect classes only. The value is a cross-entropy: it is not 0 where the student equals the teacher.

    The paper has one label per sample. With a mixed label, our extension: the first part is ``-sum_k w_k p_k log q_k``,
    and hats exclude all correct classes. A sample whose classes are all correct has no second part.

    Args:
        student: logits ``(B, K)``; carries the gradient.
        teacher: logits ``(B, K)``; treated as a constant.
        target: mixed labels ``(B, k)``.
        temperature: T > 0, of the incorrect classes.
        incorrect_weight: the paper's gamma, >= 0.
        mean: mean over the samples ``(B,)``; a task that ignores some rows passes a mean over its valid rows.

    Returns:
        Scalar, averaged over the batch.

    Raises:
        ValueError: the shapes are not equal, or not ``(B, K)``.
    """
    check_logits(student, teacher)
    teacher = teacher.detach()
    agreement = softened(teacher, 1.0).exp() * softened(student, 1.0)
    of_correct = (target.weights.to(agreement.dtype) * agreement.gather(1, target.labels)).sum(1)

    correct = target.correct(student.shape[1])
    has_incorrect = ~correct.all(1)
    # A row without incorrect classes keeps all classes, so that its gradient stays finite.
    excluded = correct & has_incorrect[:, None]
    log_student = softened(student.masked_fill(excluded, -torch.inf), temperature).masked_fill(excluded, 0)
    renormalized = softened(teacher.masked_fill(excluded, -torch.inf), temperature).exp()
    among_incorrect = torch.where(has_incorrect, (renormalized * log_student).sum(1), 0)
    return -mean(of_correct + incorrect_weight * temperature**2 * among_incorrect)


class NKDLoss(Loss):
    """``normalized_kd``; term ``nkd``.

    The paper adds cross-entropy of weight 1. Its weight and temperature of the incorrect classes are 3.5 and 3 on
    CIFAR-100 (ResNet34 to ResNet18), and 1.5 and 1 for convolutional networks on ImageNet.

    Args:
        temperature: T > 0.
        incorrect_weight: >= 0.

    Raises:
        InputError: an argument is outside its range.
    """

    traceable = True
    other_temperatures = (1.0,)
    smallest_classes = 3  # two incorrect classes to compare

    def __init__(self, *, temperature: float = 3.0, incorrect_weight: float = 3.5) -> None:
        super().__init__()
        self.temperature = validation.positive("loss.temperature", temperature)
        self.incorrect_weight = validation.non_negative("loss.incorrect_weight", incorrect_weight)

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"nkd"}`` of the rows of logits."""
        rows, teacher_rows = paired_rows(student, teacher, target, self)
        value = normalized_kd(
            rows.student,
            teacher_rows,
            rows.target,
            temperature=self.temperature,
            incorrect_weight=self.incorrect_weight,
            mean=rows.mean,
        )
        return {"nkd": value}
