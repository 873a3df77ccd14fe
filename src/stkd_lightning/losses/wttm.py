"""Weighted transformed teacher matching: Zheng and Yang 2024, Sec. 3 and 4 (arXiv:2402.11148)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from stkd_lightning.losses.base import Loss, Terms, check_logits, paired_rows
from stkd_lightning.losses.functional import softened
from stkd_lightning.tasks.types import Mean, MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation


def transformed_matching(
    student: Tensor, teacher: Tensor, *, temperature: float = 5.0, weighted: bool = True, mean: Mean = torch.mean
) -> Tensor:
    """``S * KL(r || q)`` of the teacher's probabilities raised to a power and of the student's as they are.

    p and q are the softmaxes of teacher and student at temperature 1::

        r_k = p_k ** (1 / T) / S,    S = sum_k p_k ** (1 / T)

    r is the teacher's softmax at temperature T. S is between 1, for a certain teacher, and K ** (1 - 1 / T): samples of
    which the teacher is less certain count more. There is no factor T**2.

    Args:
        student: logits ``(B, K)``; carries the gradient.
        teacher: logits ``(B, K)``; treated as a constant.
        temperature: T > 0; 1 / T is the paper's gamma.
        weighted: false: transformed teacher matching (TTM), S is replaced by 1.
        mean: mean over the samples ``(B,)``; a task that ignores some rows passes a mean over its valid rows.

    Returns:
        Scalar, nats per example: summed over classes, averaged over the batch.

    Raises:
        ValueError: the shapes are not equal, or not ``(B, K)``.

    Example:
        >>> import torch
        >>> from stkd_lightning.losses import transformed_matching
        >>> student, teacher = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[4.0, 2.0, 0.0]])
        >>> transformed_matching(student, teacher, temperature=4.0)
        tensor(0.0472)
    """
    check_logits(student, teacher)
    log_powers = softened(teacher.detach(), 1.0) / temperature
    log_sum = log_powers.logsumexp(1)
    log_transformed = log_powers - log_sum[:, None]
    divergence = F.kl_div(softened(student, 1.0), log_transformed, reduction="none", log_target=True).sum(1)
    return mean(log_sum.exp() * divergence if weighted else divergence)


class WTTMLoss(Loss):
    """``transformed_matching``; term ``wttm``.

    The paper adds cross-entropy of weight 1. Its temperatures and weights per pair stand in its appendix A.4.

    Args:
        temperature: T > 0.
        weighted: false: transformed teacher matching (TTM), all samples count alike.

    Raises:
        InputError: an argument is outside its range.
    """

    traceable = True
    needs_labels = False
    other_temperatures = (1.0,)

    def __init__(self, *, temperature: float = 5.0, weighted: bool = True) -> None:
        super().__init__()
        self.temperature = validation.positive("loss.temperature", temperature)
        self.weighted = validation.switch("loss.weighted", weighted)

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"wttm"}`` of the rows of logits."""
        rows, teacher_rows = paired_rows(student, teacher, target, self)
        value = transformed_matching(
            rows.student, teacher_rows, temperature=self.temperature, weighted=self.weighted, mean=rows.mean
        )
        return {"wttm": value}
