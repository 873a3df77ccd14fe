"""Attention transfer: Zagoruyko and Komodakis 2017, Sec. 3.1 (arXiv:1612.03928)."""

from torch import Tensor

from stkd_lightning.losses.base import Terms, full_precision
from stkd_lightning.losses.feature_loss import StagesLoss, check_maps, same_resolution
from stkd_lightning.losses.functional import unit
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext


@full_precision
def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over samples and positions of ``(a_s - a_t)**2``, a the L2-normalized map ``mean_c F_c**2``.

    The authors' code takes this mean of squares, and the usual weight belongs to it; the paper (Eq. 2) takes the norm
    of the difference. The larger of two resolutions is average-pooled to the smaller.

    Args:
        student: feature map ``(B, C_s, H_s, W_s)``; carries the gradient.
        teacher: feature map ``(B, C_t, H_t, W_t)``; treated as a constant.

    Returns:
        Scalar, dimensionless.

    Raises:
        ValueError: the tensors are not feature maps of the same batch.
    """
    check_maps(student, teacher)
    student, teacher = same_resolution(student, teacher.detach())
    return (_attention(student) - _attention(teacher)).square().mean()


def _attention(features: Tensor) -> Tensor:
    return unit(features.square().mean(1).flatten(1))


class ATLoss(StagesLoss):
    """``attention_transfer``, summed over the stages; term ``at``.

    In the literature the term is added to cross-entropy with weight 1000.

    Args:
        student_layers: module paths; see ``FeatureLoss``.
        teacher_layers: module paths.
    """

    traceable = True

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"at"}`` of feature maps ``(B, C, H, W)``."""
        losses = [attention_transfer(*maps) for maps in self.pairs(student, teacher)]
        return {"at": sum(losses[1:], losses[0])}
