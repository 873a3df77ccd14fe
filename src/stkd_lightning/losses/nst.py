"""Neuron selectivity transfer: Huang and Wang 2017, Sec. 4 (arXiv:1707.01219)."""

from torch import Tensor

from stkd_lightning.losses.base import Terms, full_precision
from stkd_lightning.losses.feature_loss import StagesLoss, check_maps, same_resolution
from stkd_lightning.losses.functional import unit
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext


@full_precision
def neuron_selectivity(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared maximum mean discrepancy between the channels of both networks, kernel ``k(x, y) = (x . y)**2``.

    A channel is represented by its map, flattened and L2-normalized. The discrepancy is
    ``mean k(t, t') + mean k(s, s') - 2 mean k(s, t)`` with means over the pairs of channels (Eq. 5, with the polynomial
    kernel of degree 2 and constant 0), averaged over the batch. The larger of two resolutions is average-pooled to the
    smaller.

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
    student, teacher = _channels(student), _channels(teacher)
    return _mean_kernel(teacher, teacher) + _mean_kernel(student, student) - 2 * _mean_kernel(student, teacher)


def _channels(features: Tensor) -> Tensor:
    return unit(features.flatten(2))


def _mean_kernel(left: Tensor, right: Tensor) -> Tensor:
    return (left @ right.transpose(1, 2)).square().mean()


class NSTLoss(StagesLoss):
    """``neuron_selectivity``, summed over the stages; term ``nst``.

    In the literature the term is added to cross-entropy with weight 50.

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
        """Return ``{"nst"}`` of feature maps ``(B, C, H, W)``."""
        losses = [neuron_selectivity(*maps) for maps in self.pairs(student, teacher)]
        return {"nst": sum(losses[1:], losses[0])}
