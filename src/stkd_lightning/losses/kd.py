"""Softened-logit distillation: Hinton et al. 2015, Sec. 2 (arXiv:1503.02531)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from stkd_lightning.losses.base import Loss, Terms, check_logits, paired_rows
from stkd_lightning.losses.cross_entropy import mixed_cross_entropy
from stkd_lightning.losses.functional import softened
from stkd_lightning.tasks.types import Mean, MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation


def softened_kl(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float | Tensor = 4.0,
    standardize: bool = False,
    mean: Mean = torch.mean,
) -> Tensor:
    """``T**2 * KL(teacher || student)`` between softmaxes at temperature T.

    Args:
        student: logits ``(B, K)``; carries the gradient.
        teacher: logits ``(B, K)``; treated as a constant.
        temperature: T > 0, dimensionless; of standardized logits in units of the standard deviation. A tensor ``()``
            may carry a gradient.
        standardize: whether the logits of each sample are standardized first (``functional.standardized``).
        mean: mean over the samples ``(B,)``; a task that ignores some rows passes a mean over its valid rows.

    Returns:
        Scalar, T**2 * nats per example: summed over classes, averaged over the batch.

    Raises:
        ValueError: the shapes are not equal, or not ``(B, K)``.

    Example:
        >>> import torch
        >>> from stkd_lightning.losses import softened_kl
        >>> student, teacher = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[4.0, 2.0, 0.0]])
        >>> softened_kl(student, teacher, temperature=4.0)
        tensor(0.6761)
    """
    check_logits(student, teacher)
    log_student = softened(student, temperature, standardize=standardize)
    log_teacher = softened(teacher.detach(), temperature, standardize=standardize)
    divergence = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(1)
    return temperature**2 * mean(divergence)


class KDLoss(Loss):
    """``(1 - alpha) CE(y, p_s) + alpha T**2 KL(p_t || p_s)``; terms ``cross_entropy``, unless alpha is 1, and ``kd``.

    Args:
        alpha: share of the distillation term, in [0, 1].
        temperature: T > 0.
        standardize: whether the distillation term compares standardized logits (arXiv:2403.01427); such rows need three
            classes, for those of two are standardized to two constants.

    Raises:
        InputError: an argument is outside its range.

    Example:
        >>> import torch
        >>> from stkd_lightning import MixedTarget, ModelOutput
        >>> from stkd_lightning.losses import KDLoss
        >>> student, teacher = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[4.0, 2.0, 0.0]])
        >>> KDLoss(alpha=0.9)(ModelOutput(student), ModelOutput(teacher), MixedTarget.unmixed(torch.tensor([0])))
        {'cross_entropy': tensor(0.0551), 'kd': tensor(0.6085)}
    """

    traceable = True
    needs_labels = False

    def __init__(self, *, alpha: float = 0.9, temperature: float = 4.0, standardize: bool = False) -> None:
        super().__init__()
        self.alpha = validation.unit_interval("loss.alpha", alpha)
        self.temperature = validation.positive("loss.temperature", temperature)
        self.standardize = validation.switch("loss.standardize", standardize)
        self.smallest_classes = 3 if self.standardize else 1

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return the weighted terms of the rows of logits."""
        rows, teacher_rows = paired_rows(student, teacher, target, self)
        kl = softened_kl(
            rows.student, teacher_rows, temperature=self.temperature, standardize=self.standardize, mean=rows.mean
        )
        if self.alpha == 1:
            return {"kd": kl}
        cross_entropy = mixed_cross_entropy(rows.student, rows.target, mean=rows.with_label().mean)
        return {"cross_entropy": (1 - self.alpha) * cross_entropy, "kd": self.alpha * kl}
