"""Variational information distillation: Ahn et al. 2019, Sec. 2.1 (arXiv:1904.05835)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.losses.base import Terms, full_precision
from stkd_lightning.losses.feature_loss import Shapes, StagesLoss, check_maps, same_resolution
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.dtypes import at_least_float32
from stkd_lightning.utilities.errors import InputError

SMALLEST_VARIANCE = 1e-5


@full_precision
def variational_information(student: Tensor, teacher: Tensor, *, variance: Tensor | float = 5.0) -> Tensor:
    """``mean of ((t - mu)**2 / v + log v) / 2``: the teacher's negative log-likelihood under the student's Gaussian.

    The constant ``log(2 pi) / 2`` is left out (Eq. 4 and 5).

    Args:
        student: means mu ``(B, C, ...)`` of the teacher's features, predicted from the student's.
        teacher: features t ``(B, C, ...)``; treated as a constant.
        variance: v > 0, one per channel ``(C,)`` or one for all.

    Returns:
        Scalar, nats per element.

    Raises:
        ValueError: the shapes differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"predicted means and teacher features need one shape: {tuple(student.shape)}, {tuple(teacher.shape)}"
        )
    variance = torch.as_tensor(variance, dtype=student.dtype, device=student.device)
    variance = variance.view(-1, *[1] * (student.ndim - 2)) if variance.ndim else variance
    return ((teacher.detach() - student).square() / variance + variance.log()).mean() / 2


class Regressor(nn.Module):
    """Three 1x1 convolutions from the student's channels to the teacher's means, and a trained variance per channel."""

    def __init__(self, width_in: int, width: int, variance: float) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Conv2d(width_in, width, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(width, width, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(width, width, 1, bias=False),
        )
        # the inverse of v = softplus(scale) + SMALLEST_VARIANCE
        rest = variance - SMALLEST_VARIANCE
        self.scale = nn.Parameter(torch.full((width,), rest + math.log(-math.expm1(-rest))))

    def variance(self) -> Tensor:
        return F.softplus(at_least_float32(self.scale)) + SMALLEST_VARIANCE


class VIDLoss(StagesLoss):
    """``variational_information`` with trained means and variances, summed over the stages; term ``vid``.

    In the literature the term is added to cross-entropy with weight 1. The term can be negative: it is not a distance.

    Args:
        variance: > 1e-5, initial variance of each channel.
        student_layers: module paths; see ``FeatureLoss``.
        teacher_layers: module paths.

    Raises:
        InputError: an argument outside its range.
    """

    traceable = True
    learns = True

    def __init__(
        self,
        *,
        variance: float = 5.0,
        student_layers: str | Sequence[str] | None = None,
        teacher_layers: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(student_layers=student_layers, teacher_layers=teacher_layers)
        self.variance = validation.positive("loss.variance", variance)
        if variance <= SMALLEST_VARIANCE:
            raise InputError(f"loss.variance={variance}: must be above {SMALLEST_VARIANCE}")
        self.regressors = nn.ModuleList()

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Create a regressor for each stage."""
        self.regressors = nn.ModuleList(
            Regressor(width_in, width, self.variance)
            for (_, width_in, *_), (_, width, *_) in zip(student, teacher, strict=True)
        )

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"vid"}`` of feature maps ``(B, C, H, W)``."""
        losses = []
        for (student_map, teacher_map), regressor in zip(self.pairs(student, teacher), self.regressors, strict=True):
            assert isinstance(regressor, Regressor)
            check_maps(student_map, teacher_map)
            student_map, teacher_map = same_resolution(student_map, at_least_float32(teacher_map))
            mean, variance = regressor.mean(student_map), regressor.variance()
            losses.append(variational_information(mean, teacher_map, variance=variance))
        return {"vid": sum(losses[1:], losses[0])}
