"""FitNets' hints: Romero et al. 2015, Sec. 2.2 (arXiv:1412.6550), as one term of the objective."""

from torch import Tensor, nn

from stkd_lightning.losses.base import Terms, full_precision
from stkd_lightning.losses.feature_loss import FeatureLoss, Shapes, same_resolution
from stkd_lightning.models.layers import Layers
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities.dtypes import at_least_float32


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


class FitNetLoss(FeatureLoss):
    """``hint`` between the middle stages, after a trained regressor on the student's; term ``fitnet``.

    Differences from the paper: one training phase instead of two, as in RepDistiller, which adds the term to
    cross-entropy with weight 100; the regressor is a 1x1 convolution with BatchNorm and no ReLU, since the maps of some
    networks are signed; the larger of two resolutions is average-pooled to the smaller.

    Args:
        student_layers: module path; see ``FeatureLoss``.
        teacher_layers: module path.
    """

    traceable = True
    dimensions = (4,)
    learns = True

    regressors: nn.ModuleList

    @staticmethod
    def default_layers(layers: Layers) -> tuple[str, ...]:
        """Return the middle stage; for an even number of stages, the one before the middle."""
        return layers.stages[(len(layers.stages) - 1) // 2 :][:1]

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Create a regressor for each layer."""
        self.regressors = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width_in, width, 1, bias=False), nn.BatchNorm2d(width))
            for (_, width_in, *_), (_, width, *_) in zip(student, teacher, strict=True)
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
        for (student_map, teacher_map), regressor in zip(self.pairs(student, teacher), self.regressors, strict=True):
            student_map, teacher_map = same_resolution(student_map, at_least_float32(teacher_map))
            losses.append(hint(regressor(student_map), teacher_map))
        return {"fitnet": sum(losses[1:], losses[0])}
