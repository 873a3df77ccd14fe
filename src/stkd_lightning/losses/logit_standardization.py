"""Logit Standardization in Knowledge Distillation: Sun et al. 2024, Sec. 3.3 and Alg. 1 (arXiv:2403.01427)."""

import torch
from torch import Tensor

from stkd_lightning.losses.base import Loss, Terms, full_precision, paired_rows
from stkd_lightning.losses.functional import unit_deviations
from stkd_lightning.losses.kd import softened_kl
from stkd_lightning.tasks.types import Mean, MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation


@full_precision
def standardized_kl(student: Tensor, teacher: Tensor, *, temperature: float = 2.0, mean: Mean = torch.mean) -> Tensor:
    """``softened_kl`` between standardized logits: ``(z - mean) / std`` over the classes of each sample.

    The standard deviation is the population's, as in the paper; the authors' code divides by K - 1. If all logits of a
    sample are equal, the standardized logits are 0.

    Args:
        student: logits ``(B, K)``; carries the gradient.
        teacher: logits ``(B, K)``; treated as a constant.
        temperature: T > 0, in units of the standard deviation.
        mean: mean over the samples ``(B,)``; a task that ignores some rows passes a mean over its valid rows.

    Returns:
        Scalar, T**2 * nats per example.

    Raises:
        ValueError: the shapes are not equal, or not ``(B, K)``.
    """
    return softened_kl(_standardized(student), _standardized(teacher), temperature=temperature, mean=mean)


def _standardized(logits: Tensor) -> Tensor:
    # (z - mean) / std is the direction of z - mean, times sqrt(K).
    return logits.shape[-1] ** 0.5 * unit_deviations(logits)


class LogitStandardizationLoss(Loss):
    """``standardized_kl``; term ``logit_standardization``.

    The paper adds cross-entropy of weight 0.1; on CIFAR-100 it uses weight 9 and T = 2.

    Args:
        temperature: T > 0.

    Raises:
        InputError: an argument is outside its range.
    """

    traceable = True
    smallest_classes = 3  # with two classes, standardized logits are always 1 and -1

    def __init__(self, *, temperature: float = 2.0) -> None:
        super().__init__()
        self.temperature = validation.positive("loss.temperature", temperature)

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"logit_standardization"}`` of the rows of logits."""
        rows, teacher_rows = paired_rows(student, teacher, target, self)
        value = standardized_kl(rows.student, teacher_rows, temperature=self.temperature, mean=rows.mean)
        return {"logit_standardization": value}
