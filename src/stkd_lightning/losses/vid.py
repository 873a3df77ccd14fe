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
        student: means mu of the teacher's features, predicted from the student's, ``(B, C, ...)``.
        teacher: features t ``(B, C, ...)``; treated as a constant.
        variance: v > 0, of each channel ``(C,)`` or of all.

    Returns:
        Scalar, nats per element.

    Raises:
        ValueError: shapes that differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"predicted means and teacher features need one shape: {tuple(student.shape)}, {tuple(teacher.shape)}"
        )
    variance = torch.as_tensor(variance, dtype=student.dtype, device=student.device)
    variance = variance.view(-1, *[1] * (student.ndim - 2)) if variance.ndim else variance
    return ((teacher.detach() - student).square() / variance + variance.log()).mean() / 2


class Regressor(nn.Module):
    """Three 1x1 convolutions from the student's channels to the means of the teacher's, and their variances."""

    def __init__(self, width_in: int, width: int, variance: float) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Conv2d(width_in, width, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(width, width, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(width, width, 1, bias=False),
        )
        # v = softplus(s) + the smallest, inverted
        rest = variance - SMALLEST_VARIANCE
        self.scale = nn.Parameter(torch.full((width,), rest + math.log(-math.expm1(-rest))))

    def variance(self) -> Tensor:
        return F.softplus(at_least_float32(self.scale)) + SMALLEST_VARIANCE


class VIDLoss(StagesLoss):
    """``variational_information`` with learned means and variances, summed over the stages; term ``vid``.

    In the literature beside cross-entropy with weight 1. May be negative: it is no distance.

    Args:
        variance: > 1e-5, with which each channel starts.
        student_layers: module paths; see ``FeatureLoss``.
        teacher_layers: module paths.

    Raises:
        InputError: an argument outside its range.
    """

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
            raise InputError(f"loss.variance={variance}: must be above {SMALLEST_VARIANCE}, the least that is learned")
        self.regressors = nn.ModuleList()

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Make a regressor for each stage."""
        pairs = zip(student, teacher, strict=True)
        self.regressors = nn.ModuleList(Regressor(own[1], other[1], self.variance) for own, other in pairs)

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"vid"}`` of feature maps ``(B, C, H, W)``."""
        losses = []
        for (own, other), regressor in zip(self.pairs(student, teacher), self.regressors, strict=True):
            assert isinstance(regressor, Regressor)
            check_maps(own, other)
            own, other = same_resolution(own, at_least_float32(other))
            losses.append(variational_information(regressor.mean(own), other, variance=regressor.variance()))
        return {"vid": sum(losses[1:], losses[0])}
