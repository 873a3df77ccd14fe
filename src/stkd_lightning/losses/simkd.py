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

    The student ends in the teacher's classifier, ``models.reuse_classifier``, which stays as it is; there is no
    cross-entropy. The larger of two resolutions is average-pooled to the smaller; the paper's code pools a student's
    map that is larger before the projector.
    """

    dimensions = (4,)
    learns = True

    def __init__(self) -> None:
        super().__init__()

    def prepare(self, student: NetworkInspector, teacher: NetworkInspector) -> None:
        """Give the student the teacher's classifier, frozen.

        Raises:
            InputError: a student without a projector, or with that of a teacher of another width or other classes.
        """
        self.student_layers, self.teacher_layers = (student.layers.pooled,), (teacher.layers.pooled,)
        if not isinstance(dict(student.inner.named_modules()).get(student.layers.pooled), Projector):
            raise InputError(
                f"SimKDLoss: {student.name} does not end in the teacher's classifier; "
                "make it by models.reuse_classifier(student, teacher)"
            )
        own, its = head_of(student), head_of(teacher)
        if own.weight.shape != its.weight.shape:
            raise InputError(
                f"SimKDLoss: {student.name} ends in a classifier of shape {tuple(own.weight.shape)}, the teacher's has "
                f"{tuple(its.weight.shape)}; make it by models.reuse_classifier(student, teacher)"
            )
        own.load_state_dict(its.state_dict())
        super().prepare(student, teacher)

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Refuse maps of different width."""
        if student[0][1] != teacher[0][1]:
            raise InputError(
                f"SimKDLoss: the student's projected map has {student[0][1]} channels, the teacher's last one "
                f"{teacher[0][1]}; make the student by models.reuse_classifier(student, teacher)"
            )

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"simkd"}`` of feature maps ``(B, C, H, W)``."""
        ((own, other),) = self.pairs(student, teacher)
        own, other = same_resolution(at_least_float32(own), at_least_float32(other))
        return {"simkd": hint(own, other)}
