"""Channel-wise knowledge distillation for dense prediction (CWD): Shu et al. 2021 (arXiv:2011.13256)."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.losses.base import Terms, full_precision
from stkd_lightning.losses.dense_loss import LastFeatureLoss, ScoresLoss, check_channels, resized
from stkd_lightning.losses.feature_loss import Shapes, embed
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation


@full_precision
def channel_wise(student: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    """``T**2`` times the mean over channels of ``KL(p_t || p_s)``, p a channel's softmax over positions at T.

    The teacher's map is resized bilinearly to the student's size before the softmax.

    Args:
        student: map ``(B, C, H, W)``; carries the gradient.
        teacher: map ``(B, C, H', W')``; treated as a constant.
        temperature: T > 0.

    Returns:
        Scalar, ``T**2`` nats per channel: summed over positions, averaged over batch and channels.

    Raises:
        ValueError: the tensors are not maps of the same batch with equal numbers of channels.
    """
    check_channels(student, teacher)
    teacher = resized(teacher.detach(), student.shape[2:])
    log_student = F.log_softmax(student.flatten(2) / temperature, dim=2)
    log_teacher = F.log_softmax(teacher.flatten(2) / temperature, dim=2)
    divergence = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(2)
    return temperature**2 * divergence.mean()


class CWDLoss(ScoresLoss):
    """``channel_wise`` of the scores; term ``cwd``. The authors' weight is 3.

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
        temperature: float = 4.0,
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
        """Return ``{"cwd"}`` of scores ``(B, C, H, W)``."""
        ((student_scores, teacher_scores),) = self.pairs(student, teacher)
        return {"cwd": channel_wise(student_scores, teacher_scores, temperature=self.temperature)}


class CWDFeatureLoss(LastFeatureLoss):
    """``channel_wise`` of the feature map that the classifier reads; term ``cwd_feature``. The authors' weight is 50.

    If the networks differ in the number of channels, a learned 1x1 convolution without bias maps the student's.

    Args:
        temperature: T > 0.
        student_layers: module path; see ``FeatureLoss``.
        teacher_layers: module path.

    Raises:
        InputError: an argument outside its range.
    """

    traceable = True
    learns = True

    def __init__(
        self,
        *,
        temperature: float = 4.0,
        student_layers: str | Sequence[str] | None = None,
        teacher_layers: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(student_layers=student_layers, teacher_layers=teacher_layers)
        self.temperature = validation.positive("loss.temperature", temperature)
        self.projection: nn.Module = nn.Identity()

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Create the convolution between different numbers of channels."""
        width_in, width = student[0][1], teacher[0][1]
        self.projection = nn.Identity() if width_in == width else nn.Conv2d(width_in, width, 1, bias=False)

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"cwd_feature"}`` of feature maps ``(B, C, H, W)``."""
        ((student_map, teacher_map),) = self.pairs(student, teacher)
        projected = embed(self.projection, student_map)
        return {"cwd_feature": channel_wise(projected, teacher_map, temperature=self.temperature)}
