"""Distilling Knowledge via Knowledge Review: Chen et al. 2021, Sec. 3 (arXiv:2104.09044)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.losses.base import Terms, full_precision
from stkd_lightning.losses.feature_loss import FeatureLoss, Shapes, check_maps, pooled
from stkd_lightning.losses.functional import warmed_up
from stkd_lightning.models.probe import Layers
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import InputError

WIDEST = 512  # channels inside a fusion
LEVELS = (4, 2, 1)  # sides of the pooled context


@full_precision
def hierarchical_context(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of maps and of their averages over 4x4, 2x2 and 1x1 fields (Sec. 3.4).

    The map itself has weight 1, each coarser level that is smaller than the map half the one before; divided by the sum
    of the weights.

    Args:
        student: ``(B, C, H, W)``; carries the gradient.
        teacher: the same shape; treated as a constant.

    Returns:
        Scalar, in squared units of the features.

    Raises:
        ValueError: shapes that differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(f"student and teacher features need one shape: {tuple(student.shape)}, {tuple(teacher.shape)}")
    teacher = teacher.detach()
    total, weight, weights = F.mse_loss(student, teacher), 1.0, 1.0
    for side in LEVELS:
        if side < min(student.shape[2:]):
            weight /= 2
            weights += weight
            total = total + weight * F.mse_loss(pooled(student, (side, side)), pooled(teacher, (side, side)))
    return total / weights


class _Fusion(nn.Module):
    """Attention-based fusion of a stage with what comes from the deeper ones (Sec. 3.3, Fig. 3a).

    Args:
        width_in: channels of the student's stage.
        width_inside: channels handed on.
        width: channels of the teacher's stage.
        deepest: nothing comes from deeper stages.
    """

    def __init__(self, width_in: int, width_inside: int, width: int, *, deepest: bool) -> None:
        super().__init__()
        narrow = nn.Conv2d(width_in, width_inside, 1, bias=False)
        widen = nn.Conv2d(width_inside, width, 3, padding=1, bias=False)
        for convolution in (narrow, widen):
            nn.init.kaiming_uniform_(convolution.weight, a=1)
        self.inside = nn.Sequential(narrow, nn.BatchNorm2d(width_inside))
        self.attention = None if deepest else nn.Sequential(nn.Conv2d(2 * width_inside, 2, 1), nn.Sigmoid())
        self.outside = nn.Sequential(widen, nn.BatchNorm2d(width))

    def forward(self, stage: Tensor, deeper: Tensor | None, size: torch.Size) -> tuple[Tensor, Tensor]:
        """Return the fused stage as the teacher's, ``(B, width, *size)``, and what is handed on."""
        fused = self.inside(stage)
        if self.attention is not None and deeper is not None:
            deeper = F.interpolate(deeper, fused.shape[2:], mode="nearest")
            own, other = self.attention(torch.cat([fused, deeper], dim=1)).chunk(2, dim=1)
            fused = fused * own + deeper * other
        if fused.shape[2:] != size:
            fused = F.interpolate(fused, size, mode="nearest")
        return self.outside(fused), fused


def _as_map(features: Tensor) -> Tensor:
    return features[:, :, None, None] if features.ndim == 2 else features


class ReviewKDLoss(FeatureLoss):
    """Each stage of the teacher learned from that stage of the student and all deeper ones; term ``reviewkd``.

    ``hierarchical_context`` of the fused stages, summed; the pooled features are the deepest stage. In the authors'
    runs on CIFAR-100 beside cross-entropy, with a weight for each pair: 5 for most, 8 for resnet32x4 to ShuffleV2, 0.6
    for resnet56 to resnet20, 1 for resnet110 to resnet32. They read the stages before their last activation, this after
    it.

    Args:
        warmup: share in [0, 1] of the run over which the term grows linearly; 20 of 240 epochs in the authors' runs,
            who count them from 0.
        student_layers: module paths from the first stage on; see ``FeatureLoss``.
        teacher_layers: module paths.

    Raises:
        InputError: an argument outside its range.
    """

    smallest_batch = 2  # BatchNorm of pooled features
    dimensions = (2, 4)
    learns = True

    fusions: nn.ModuleList

    def __init__(
        self,
        *,
        warmup: float = 20 / 240,
        student_layers: str | Sequence[str] | None = None,
        teacher_layers: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(student_layers=student_layers, teacher_layers=teacher_layers)
        self.warmup = validation.unit_interval("loss.warmup", warmup)

    @staticmethod
    def default_layers(layers: Layers) -> tuple[str, ...]:
        """Return all stages and the pooled features."""
        return (*layers.stages, layers.embedding) if layers.stages else ()

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Make a fusion for each stage."""
        inside = min(WIDEST, student[-1][1])
        pairs = list(zip(student, teacher, strict=True))
        self.fusions = nn.ModuleList(
            _Fusion(own[1], inside, other[1], deepest=i + 1 == len(pairs)) for i, (own, other) in enumerate(pairs)
        )

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"reviewkd"}`` of maps ``(B, C, H, W)`` or vectors ``(B, C)``; without a context warmed up."""
        losses: list[Tensor] = []
        deeper: Tensor | None = None
        stages = zip(self.pairs(student, teacher), self.fusions, strict=True)
        for (own, other), fusion in reversed(list(stages)):
            own, other = _as_map(own), _as_map(other)
            if len(own) < 2 and self.training:
                raise InputError("ReviewKDLoss: BatchNorm of pooled features needs 2 samples or more on each rank")
            check_maps(own, other)
            fused, deeper = fusion(own, deeper, other.shape[2:])
            losses.append(hierarchical_context(fused, other))
        return {"reviewkd": warmed_up(context, self.warmup) * sum(losses[1:], losses[0])}
