"""Distilling Knowledge via Knowledge Review: Chen et al. 2021, Sec. 3 (arXiv:2104.09044)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.losses.base import Terms, full_precision
from stkd_lightning.losses.feature_loss import FeatureLoss, Shapes, average_pool, check_maps
from stkd_lightning.losses.functional import warmup_factor
from stkd_lightning.models.layers import Layers
from stkd_lightning.models.probe import NetworkInspector
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import InputError

WIDEST = 512  # largest number of channels inside a fusion
LEVELS = (4, 2, 1)  # side lengths of the pooled maps


@full_precision
def hierarchical_context(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of maps and of their averages over 4x4, 2x2 and 1x1 fields (Sec. 3.4).

    The map itself has weight 1; each coarser level that is smaller than the map has half the weight of the previous
    one. The sum is divided by the sum of the weights.

    Args:
        student: ``(B, C, H, W)``; carries the gradient.
        teacher: the same shape; treated as a constant.

    Returns:
        Scalar, in squared units of the features.

    Raises:
        ValueError: the shapes differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(f"student and teacher features need one shape: {tuple(student.shape)}, {tuple(teacher.shape)}")
    teacher = teacher.detach()
    total, weight, weights = F.mse_loss(student, teacher), 1.0, 1.0
    for side in LEVELS:
        if side < min(student.shape[2:]):
            weight /= 2
            weights += weight
            size = (side, side)
            total = total + weight * F.mse_loss(average_pool(student, size), average_pool(teacher, size))
    return total / weights


class _Fusion(nn.Module):
    """Attention-based fusion of a stage with the fused deeper stages (Sec. 3.3, Fig. 3a).

    Args:
        width_in: channels of the student's stage.
        width_inside: channels passed on to the next fusion.
        width: channels of the teacher's stage.
        deepest: whether the stage has no deeper one to fuse with.
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
        """Return the fused stage in the teacher's shape ``(B, width, *size)``, and the map for the next fusion."""
        fused = self.inside(stage)
        if self.attention is not None and deeper is not None:
            deeper = F.interpolate(deeper, fused.shape[2:], mode="nearest")
            stage_weight, deeper_weight = self.attention(torch.cat([fused, deeper], dim=1)).chunk(2, dim=1)
            fused = fused * stage_weight + deeper * deeper_weight
        if fused.shape[2:] != size:
            fused = F.interpolate(fused, size, mode="nearest")
        return self.outside(fused), fused


def _as_map(features: Tensor) -> Tensor:
    return features[:, :, None, None] if features.ndim == 2 else features


class ReviewKDLoss(FeatureLoss):
    """Distillation of each teacher stage into the same and all deeper stages of the student; term ``reviewkd``.

    The term is the sum of ``hierarchical_context`` over the fused stages; the pooled features are the deepest stage.
    As in the authors' code, the teacher's stages are read before their last activation and the student's after it. A
    teacher that does not declare these maps (``Layers.preactivations``; the built-in CIFAR networks do) is read after
    the activation, and the log says so.

    The authors add the term to cross-entropy on CIFAR-100 with a weight for each pair: 5 for resnet32x4 to resnet8x4
    and ShuffleV1 and for wrn_40_2 to wrn_16_2, wrn_40_1 and ShuffleV1; 8 for resnet32x4 to ShuffleV2; 0.6 for resnet56
    to resnet20; 1 for resnet110 to resnet32; none is published for other pairs. They train with batches of 128, a
    learning rate of 0.1 and Nesterov momentum; this project's recipe is that of mdistiller.

    Args:
        warmup: share in [0, 1] of the run over which the term grows linearly; 20 of 240 epochs in the authors' runs,
            which start at a factor of 0.
        student_layers: module paths, from the first stage to the deepest; see ``FeatureLoss``.
        teacher_layers: module paths.

    Raises:
        InputError: an argument outside its range.
    """

    traceable = True
    smallest_batch = 2  # needed by BatchNorm of the pooled features
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
        self.traceable = self.traceable and self.warmup == 0  # the warm-up reads the epoch

    @staticmethod
    def default_layers(layers: Layers) -> tuple[str, ...]:
        """Return all stages and the pooled features."""
        return (*layers.stages, layers.embedding) if layers.stages else ()

    def default_teacher_layers(self, layers: Layers) -> tuple[str, ...]:
        """Return all stages before their last activation, if the network declares them, and the pooled features."""
        return (*layers.preactivations, layers.embedding) if layers.preactivations else self.default_layers(layers)

    def prepare(self, student: NetworkInspector, teacher: NetworkInspector) -> None:
        """Choose the layers, and create the fusions."""
        self.notice = ""
        if not self.teacher_layers and not teacher.layers.preactivations:
            self.notice = (
                f"reviewkd: {teacher.name} declares no maps before the last activation of its stages; they are read "
                "after it, unlike the authors' (teacher_layers sets others)"
            )
        super().prepare(student, teacher)

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Create a fusion for each stage."""
        inside = min(WIDEST, student[-1][1])
        pairs = list(zip(student, teacher, strict=True))
        self.fusions = nn.ModuleList(
            _Fusion(student_shape[1], inside, teacher_shape[1], deepest=i + 1 == len(pairs))
            for i, (student_shape, teacher_shape) in enumerate(pairs)
        )

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"reviewkd"}`` of maps ``(B, C, H, W)`` or vectors ``(B, C)``; no context: no warm-up."""
        losses: list[Tensor] = []
        deeper: Tensor | None = None
        stages = zip(self.pairs(student, teacher), self.fusions, strict=True)
        for (student_stage, teacher_stage), fusion in reversed(list(stages)):
            student_map, teacher_map = _as_map(student_stage), _as_map(teacher_stage)
            if len(student_map) < 2 and self.training:
                raise InputError("ReviewKDLoss: BatchNorm of pooled features needs at least 2 samples on each rank")
            check_maps(student_map, teacher_map)
            fused, deeper = fusion(student_map, deeper, teacher_map.shape[2:])
            losses.append(hierarchical_context(fused, teacher_map))
        return {"reviewkd": warmup_factor(context, self.warmup) * sum(losses[1:], losses[0])}
