"""FitNets' hints: Romero et al. 2015, Sec. 2.2 (arXiv:1412.6550), as one term of the objective."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stkd_lightning.losses.base import Terms, full_precision
from stkd_lightning.losses.feature_loss import FeatureLoss, Shapes, check_maps, same_resolution
from stkd_lightning.models.layers import Layers
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.dtypes import at_least_float32

LARGEST_KERNEL = 9


@full_precision
def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of features (Eq. 3, averaged over all elements).

    Args:
        student: ``(B, ...)``, carries the gradient.
        teacher: the same shape; treated as a constant.

    Returns:
        Scalar, in squared units of the features.

    Raises:
        ValueError: the shapes differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(f"student and teacher features need one shape: {tuple(student.shape)}, {tuple(teacher.shape)}")
    return (student - teacher.detach()).square().mean()


def regressor(student: torch.Size, teacher: torch.Size, *, relu: bool = True) -> nn.Sequential:
    """Return RepDistiller's regressor: a convolution from a student's map to a teacher's, BatchNorm, and ReLU.

    The convolution depends on the sides of the maps: 3x3 with stride 2 if the student's are twice as long; transposed,
    4x4 with stride 2, if they are half as long; else with a kernel of ``1 + H_s - H_t`` if they are not shorter. Odd
    sides, which RepDistiller does not treat, count as twice or half rounded up. For other sides, which it refuses, and
    in place of kernels above 9x9, the convolution is 1x1. There is no bias, which BatchNorm would remove.

    Args:
        student: shape ``(B, C, H, W)``.
        teacher: shape ``(B, C', H', W')``.
        relu: end in a ReLU.
    """
    (_, width_in, *own), (_, width, *other) = student, teacher
    sides = list(zip(own, other, strict=True))
    convolution: nn.Module
    if own != other and all(t == (s + 1) // 2 for s, t in sides):
        convolution = nn.Conv2d(width_in, width, 3, stride=2, padding=1, bias=False)
    elif own != other and all(s == (t + 1) // 2 for s, t in sides):
        kernel = (4 - other[0] % 2, 4 - other[1] % 2)  # an odd side is one shorter than twice the student's
        convolution = nn.ConvTranspose2d(width_in, width, kernel, stride=2, padding=1, bias=False)
    else:
        reach = [s - t for s, t in sides]
        reach = reach if all(0 <= r < LARGEST_KERNEL for r in reach) else [0, 0]
        convolution = nn.Conv2d(width_in, width, (1 + reach[0], 1 + reach[1]), bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), *([nn.ReLU()] if relu else []))


class FitNetLoss(FeatureLoss):
    """``hint`` between the middle stages, after a trained ``regressor`` on the student's; term ``fitnet``.

    As in RepDistiller, which adds the term to cross-entropy with weight 100, there is one training phase; the paper has
    two. Where a map still differs in size after the regressor, the larger one is average-pooled.

    Args:
        relu: end the regressor in a ReLU, as in RepDistiller; false for teachers whose maps are negative in places, as
            those of wide ResNets and MobileNetV2, which a ReLU cannot reach.
        student_layers: module path; see ``FeatureLoss``.
        teacher_layers: module path.

    Raises:
        InputError: an argument outside its range.
    """

    traceable = True
    dimensions = (4,)
    learns = True

    regressors: nn.ModuleList

    def __init__(
        self,
        *,
        relu: bool = True,
        student_layers: str | Sequence[str] | None = None,
        teacher_layers: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(student_layers=student_layers, teacher_layers=teacher_layers)
        self.relu = validation.switch("loss.relu", relu)

    @staticmethod
    def default_layers(layers: Layers) -> tuple[str, ...]:
        """Return the middle stage; for an even number of stages, the one before the middle."""
        return layers.stages[(len(layers.stages) - 1) // 2 :][:1]

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Create a regressor for each layer."""
        self.regressors = nn.ModuleList(
            regressor(own, other, relu=self.relu) for own, other in zip(student, teacher, strict=True)
        )

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"fitnet"}`` of feature maps ``(B, C, H, W)``."""
        losses = []
        for (student_map, teacher_map), fitted in zip(self.pairs(student, teacher), self.regressors, strict=True):
            check_maps(student_map, teacher_map)
            losses.append(hint(*same_resolution(fitted(student_map), at_least_float32(teacher_map))))
        return {"fitnet": sum(losses[1:], losses[0])}
