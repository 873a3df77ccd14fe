"""Category-wise similarity distillation, the second half of DSD: Feng et al. 2021 (arXiv:2107.08591)."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from stkd_lightning.losses.base import Terms, full_precision
from stkd_lightning.losses.dense_loss import ScoresLoss, check_channels, resized, side_text
from stkd_lightning.losses.feature_loss import Shapes
from stkd_lightning.losses.functional import unit
from stkd_lightning.losses.psd import REDUCTIONS, Reduction
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import UndefinedError, unknown


@full_precision
def category_similarity(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """``mean_b 1 / C**2 ||M_t - M_s||_F**2``, M the similarities ``(C, C)`` of an image's classes.

    ``M = q q^T`` of the class probabilities q = softmax(z / T) at all pixels, flattened to ``(C, H W)``, with
    L2-normalized rows. The teacher's scores are resized bilinearly to the student's size before the softmax. All
    pixels count, in any order. There is no factor ``T**2``.

    Args:
        student: scores ``(B, C, H, W)``; carries the gradient.
        teacher: scores ``(B, C, H', W')``; treated as a constant.
        temperature: T > 0 of the softmaxes over classes.

    Returns:
        Scalar in [0, 1], dimensionless.

    Raises:
        ValueError: the tensors are not scores of the same classes and batch.
    """
    check_channels(student, teacher)
    teacher = resized(teacher.detach(), student.shape[2:])
    return (_similarities(teacher, temperature) - _similarities(student, temperature)).square().mean()


def _similarities(scores: Tensor, temperature: float) -> Tensor:
    rows = unit(F.softmax(scores / temperature, dim=1).flatten(2))
    return rows @ rows.transpose(1, 2)


@full_precision
def pooled_category_similarity(student: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    """``mean_b 1 / C**2 ||M_t - M_s||_F**2`` as the public re-implementation has it (winycg/CIRKD, losses/dsd.py).

    It differs from ``category_similarity``: scores are average-pooled over 2x2 fields (smaller ones at the edge),
    the softmax at T is over positions, and ``M = q q^T`` is not normalized.

    Args:
        student: scores ``(B, C, H, W)``; carries the gradient.
        teacher: scores of the same shape; treated as a constant.
        temperature: T > 0 of the softmaxes over positions.

    Returns:
        Scalar in [0, 1], dimensionless.

    Raises:
        ValueError: the shapes are not equal, or not ``(B, C, H, W)``.
    """
    check_channels(student, teacher)
    if student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher scores need one size: {tuple(student.shape)}, {tuple(teacher.shape)}; "
            "category_similarity resizes them"
        )
    teacher = teacher.detach()
    return (_pooled_similarities(teacher, temperature) - _pooled_similarities(student, temperature)).square().mean()


def _pooled_similarities(scores: Tensor, temperature: float) -> Tensor:
    rows = F.softmax(F.avg_pool2d(scores, 2, ceil_mode=True).flatten(2) / temperature, dim=2)
    return rows @ rows.transpose(1, 2)


class CSDLoss(ScoresLoss):
    """``category_similarity`` of the scores, or ``pooled_category_similarity``; term ``csd``.

    Args:
        reduction: ``paper``: ``category_similarity``, our reading of the paper; ``cirkd``:
            ``pooled_category_similarity``, whose published temperature is 4.
        temperature: T > 0.
        student_layers: module path; see ``FeatureLoss``; by default the scores before they are resized to the image.
        teacher_layers: module path.

    Raises:
        InputError: an argument outside its range; in ``prepare``, networks with different numbers of classes, or with
            ``cirkd`` scores of different sizes.
    """

    traceable = True

    def __init__(
        self,
        *,
        reduction: Reduction = "paper",
        temperature: float = 1.0,
        student_layers: str | Sequence[str] | None = None,
        teacher_layers: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(student_layers=student_layers, teacher_layers=teacher_layers)
        if reduction not in REDUCTIONS:
            raise unknown("loss.reduction", str(reduction), REDUCTIONS)
        self.reduction: Reduction = reduction
        self.temperature = validation.positive("loss.temperature", temperature)

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Refuse scores of different classes, and with ``cirkd`` of different sizes."""
        super().build(student, teacher)
        if self.reduction == "cirkd" and student[0] != teacher[0]:
            raise UndefinedError(
                f"CSDLoss: reduction=cirkd compares scores of one size, not {side_text(student[0])} of the student and "
                f"{side_text(teacher[0])} of the teacher; reduction=paper resizes"
            )

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"csd"}`` of scores ``(B, C, H, W)``."""
        ((student_scores, teacher_scores),) = self.pairs(student, teacher)
        similarity = pooled_category_similarity if self.reduction == "cirkd" else category_similarity
        return {"csd": similarity(student_scores, teacher_scores, temperature=self.temperature)}
