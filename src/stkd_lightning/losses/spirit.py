"""Spirit Distillation's first stage: Wu et al. 2021 (arXiv:2104.14696; Enhanced: arXiv:2103.13733)."""

from stkd_lightning.losses.base import Loss, Terms, require_teacher
from stkd_lightning.losses.fitnet import hint
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext


class RepresentationLoss(Loss):
    """Mean squared difference of two representations, over batch, channels and positions; term ``representation``.

    The networks are fronts, whose outputs are the representations: ``models.spirit_front`` of the student and
    ``models.cut.front`` of the teacher. No label is read. The normalization of the squared difference is our reading.
    """

    traceable = True

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"representation"}`` of outputs ``(B, C, H, W)``; ``target`` is not read."""
        return {"representation": hint(student.logits, require_teacher(teacher, self).logits)}
