"""The pair-wise term of structured knowledge distillation (SKD): Liu et al. 2019 (arXiv:1903.04197)."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from stkd_lightning.losses.base import Terms, full_precision
from stkd_lightning.losses.dense_loss import SamePositionsLoss, check_positions
from stkd_lightning.losses.functional import unit
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation


@full_precision
def pair_wise(student: Tensor, teacher: Tensor, *, pool: int = 2) -> Tensor:
    """Mean over all pairs of N nodes and over the batch of the squared difference of the nodes' cosines.

    A node is the maximum of each channel over a field of positions. Fields of 2x2 and weight 10 are those of the
    public re-implementation (winycg/CIRKD); the authors pool to 4 or 9 nodes, with weight 0.5.

    Args:
        student: feature map ``(B, C_s, H, W)``; carries the gradient.
        teacher: feature map ``(B, C_t, H, W)``; treated as a constant.
        pool: side of the fields >= 1; fields at the lower and right edge may be smaller.

    Returns:
        Scalar, dimensionless. The nodes' cosines need memory for ``B N**2`` numbers.

    Raises:
        ValueError: the tensors are not feature maps of the same batch and resolution.
    """
    check_positions(student, teacher)
    return (_cosines(teacher.detach(), pool) - _cosines(student, pool)).square().mean()


def _cosines(features: Tensor, pool: int) -> Tensor:
    nodes = unit(F.max_pool2d(features, pool, ceil_mode=True).flatten(2).transpose(1, 2))
    return nodes @ nodes.transpose(1, 2)


class SKDLoss(SamePositionsLoss):
    """``pair_wise`` of the feature map that the classifier reads; term ``skd``.

    The authors add the divergence of the scores, which ``conf/loss/skd.yaml`` adds too, and an adversary, which this
    project does not have.

    Args:
        pool: side of the pooled fields, >= 1.
        student_layers: module path; see ``FeatureLoss``.
        teacher_layers: module path.

    Raises:
        InputError: an argument outside its range; in ``prepare``, maps of different resolutions.
    """

    traceable = True

    def __init__(
        self,
        *,
        pool: int = 2,
        student_layers: str | Sequence[str] | None = None,
        teacher_layers: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(student_layers=student_layers, teacher_layers=teacher_layers)
        self.pool = validation.whole("loss.pool", pool, minimum=1)

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"skd"}`` of feature maps ``(B, C, H, W)``."""
        ((student_map, teacher_map),) = self.pairs(student, teacher)
        return {"skd": pair_wise(student_map, teacher_map, pool=self.pool)}
