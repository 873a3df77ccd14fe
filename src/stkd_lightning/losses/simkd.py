"""Knowledge Distillation with the Reused Teacher Classifier: Chen et al. 2022, Sec. 3.2 (arXiv:2203.14001)."""

from stkd_lightning.losses.base import Terms
from stkd_lightning.losses.feature_loss import FeatureLoss, Shapes, same_resolution
from stkd_lightning.losses.fitnet import hint
from stkd_lightning.models.classifier_reuse import Projector, head_of
from stkd_lightning.models.probe import NetworkInspector
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities.dtypes import at_least_float32
from stkd_lightning.utilities.errors import InputError


class SimKDLoss(FeatureLoss):
    """Mean squared difference of the student's projected map and the teacher's last one (Eq. 4); term ``simkd``.

    The student ends in the teacher's classifier (see ``models.reuse_classifier``), which is frozen; there is no
    cross-entropy. The larger of two resolutions is average-pooled to the smaller; the paper's code pools a larger
    student map before the projector, this class after it. The blocks of the authors' wide ResNets end in an
    activation (resnet38x2 in place of wrn_40_2); those of this project begin with BatchNorm.
    """

    reads_logits = True  # the teacher's classifier
    traceable = True
    dimensions = (4,)
    learns = True

    def __init__(self) -> None:
        super().__init__()

    def prepare(self, student: NetworkInspector, teacher: NetworkInspector) -> None:
        """Copy the teacher's classifier into the student.

        Raises:
            InputError: the student has no projector, or its classifier has another shape than the teacher's.
        """
        self.student_layers, self.teacher_layers = (student.layers.pooled,), (teacher.layers.pooled,)
        if not isinstance(dict(student.inner.named_modules()).get(student.layers.pooled), Projector):
            raise InputError(
                f"SimKDLoss: {student.name} does not end in the teacher's classifier; "
                "build it with models.reuse_classifier(student, teacher)"
            )
        student_head, teacher_head = head_of(student), head_of(teacher)
        if student_head.weight.shape != teacher_head.weight.shape:
            raise InputError(
                f"SimKDLoss: {student.name} ends in a classifier of shape {tuple(student_head.weight.shape)}, the "
                f"teacher's has {tuple(teacher_head.weight.shape)}; "
                "build it with models.reuse_classifier(student, teacher)"
            )
        student_head.load_state_dict(teacher_head.state_dict())
        super().prepare(student, teacher)

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Refuse maps with different numbers of channels."""
        if student[0][1] != teacher[0][1]:
            raise InputError(
                f"SimKDLoss: the student's projected map has {student[0][1]} channels, the teacher's last one "
                f"{teacher[0][1]}; build the student with models.reuse_classifier(student, teacher)"
            )

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"simkd"}`` of feature maps ``(B, C, H, W)``."""
        ((student_map, teacher_map),) = self.pairs(student, teacher)
        maps = same_resolution(at_least_float32(student_map), at_least_float32(teacher_map))
        return {"simkd": hint(*maps)}
