"""Pixel-wise distillation of class scores before they are resized to the image: Liu et al. 2019 (arXiv:1903.04197)."""

from collections.abc import Sequence

from torch import Tensor

from stkd_lightning.losses.base import Terms, full_precision
from stkd_lightning.losses.dense_loss import ScoresLoss, check_channels, resized
from stkd_lightning.losses.kd import softened_kl
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext, flat_rows
from stkd_lightning.utilities import validation


@full_precision
def pixel_wise(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """``T**2 * KL(teacher || student)`` between softmaxes over classes at T, averaged over batch and positions.

    The teacher's scores are resized bilinearly to the student's size before the softmax.

    Args:
        student: scores ``(B, C, H, W)``; carries the gradient.
        teacher: scores ``(B, C, H', W')``; treated as a constant.
        temperature: T > 0.

    Returns:
        Scalar, ``T**2`` nats per position.

    Raises:
        ValueError: the tensors are not scores of the same classes and batch.
    """
    check_channels(student, teacher)
    teacher = resized(teacher.detach(), student.shape[2:])
    return softened_kl(flat_rows(student), flat_rows(teacher), temperature=temperature)


class PixelKDLoss(ScoresLoss):
    """``pixel_wise`` of the scores before they are resized, ignored pixels included; term ``pixel_kd``.

    ``KDLoss`` compares the scores of the image's pixels instead, without the ignored ones, and adds cross-entropy. The
    public re-implementation of SKD, IFVD and CWD (winycg/CIRKD) adds this term with weight 1 and temperature 1.

    Args:
        temperature: T > 0.
        student_layers: module path; see ``FeatureLoss``; by default the scores before they are resized to the image.
        teacher_layers: module path.

    Raises:
        InputError: an argument outside its range; in ``prepare``, networks with different numbers of classes.
    """

    traceable = True

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        student_layers: str | Sequence[str] | None = None,
        teacher_layers: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(student_layers=student_layers, teacher_layers=teacher_layers)
        self.temperature = validation.positive("loss.temperature", temperature)

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"pixel_kd"}`` of scores ``(B, C, H, W)``."""
        ((student_scores, teacher_scores),) = self.pairs(student, teacher)
        return {"pixel_kd": pixel_wise(student_scores, teacher_scores, temperature=self.temperature)}
