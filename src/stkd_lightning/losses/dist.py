"""DIST, Knowledge Distillation from a Stronger Teacher: Huang et al. 2022, Sec. 3 (arXiv:2205.10536)."""

from torch import Tensor
from torch.nn import functional as F

from stkd_lightning.losses.base import Loss, Terms, check_logits, full_precision, require_teacher
from stkd_lightning.losses.feature_loss import check_pairs, everyone
from stkd_lightning.losses.functional import unit_deviations
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation


@full_precision
def inter_class(student: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    """``T**2`` times the mean over samples of 1 - Pearson's correlation of both networks' class probabilities (Eq. 7).

    Args:
        student: logits ``(B, K)``; carries the gradient.
        teacher: logits ``(B, K)``; treated as a constant.
        temperature: T > 0 of the softmaxes.

    Returns:
        Scalar in ``T**2 [0, 2]``.

    Raises:
        ValueError: not two equal ``(B, K)`` shapes.
    """
    own, other = _probabilities(student, teacher, temperature)
    return temperature**2 * (1 - _correlation(own, other)).mean()


@full_precision
def intra_class(student: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    """``T**2`` times the mean over classes of 1 - Pearson's correlation of their probabilities over the batch (Eq. 9).

    Args:
        student: logits ``(B, K)``; carries the gradient.
        teacher: logits ``(B, K)``; treated as a constant.
        temperature: T > 0 of the softmaxes.

    Returns:
        Scalar in ``T**2 [0, 2]``.

    Raises:
        InputError: a batch of one.
        ValueError: not two equal ``(B, K)`` shapes.
    """
    check_pairs(student, teacher)
    own, other = _probabilities(student, teacher, temperature)
    return temperature**2 * (1 - _correlation(own.T, other.T)).mean()


def _probabilities(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    check_logits(student, teacher)
    return F.softmax(student / temperature, dim=1), F.softmax(teacher.detach() / temperature, dim=1)


def _correlation(left: Tensor, right: Tensor) -> Tensor:
    """Return Pearson's correlation of each row of the one with that of the other."""
    return (unit_deviations(left) * unit_deviations(right)).sum(1)


class DISTLoss(Loss):
    """Weighted ``inter_class`` and, over the global batch, ``intra_class``; terms ``dist_inter`` and ``dist_intra``.

    In the paper beside cross-entropy of weight 1, with weights 2 and 2, and T = 4 on CIFAR-100.

    Args:
        inter_weight: >= 0.
        intra_weight: >= 0.
        temperature: T > 0.

    Raises:
        InputError: an argument outside its range.
    """

    smallest_batch = 2

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
        """Return both weighted terms of logits ``(B, K)``."""
        teacher = require_teacher(teacher, self)
        inter = inter_class(student.logits, teacher.logits, temperature=self.temperature)
        own, other = everyone(student.logits), everyone(teacher.logits)
        intra = intra_class(own, other, temperature=self.temperature)
        return {"dist_inter": self.inter_weight * inter, "dist_intra": self.intra_weight * intra}
