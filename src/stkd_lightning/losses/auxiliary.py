"""Cross-entropy of an auxiliary head: Zhao et al. 2017 (PSPNet), Sec. 3.3 (arXiv:1612.01105)."""

from dataclasses import replace

from torch.nn import functional as F

from stkd_lightning.losses.base import Features, Loss, Terms
from stkd_lightning.losses.cross_entropy import CrossEntropyLoss
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation


class AuxiliaryCrossEntropyLoss(Loss):
    """``CrossEntropyLoss`` of the scores of an auxiliary head of the student, without a teacher; term ``auxiliary``.

    The scores are resized bilinearly to the labels. PSPNet's weight is 0.4.

    Args:
        layer: module path in the student whose output is the scores ``(B, K, H, W)``.
        align_corners: of the resizing; the public re-implementation of DSD (winycg/CIRKD) aligns them.

    Raises:
        InputError: ``align_corners`` is no switch; in ``prepare``, or where the module is built without a teacher, the
            layer does not exist.
    """

    needs_teacher = False
    reads_features = True
    traceable = True

    def __init__(self, *, layer: str = "aux_classifier", align_corners: bool = False) -> None:
        super().__init__()
        self.layer, self.features = layer, Features(student=(layer,))
        self.align_corners = validation.switch("loss.align_corners", align_corners)
        self.criterion = CrossEntropyLoss()

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"auxiliary"}``; ``teacher`` is not read."""
        scores, size = student.features[self.layer], target.labels.shape[2:]
        if scores.shape[2:] != size:
            scores = F.interpolate(scores, size, mode="bilinear", align_corners=self.align_corners)
        (value,) = self.criterion(replace(student, logits=scores), teacher, target, context).values()
        return {"auxiliary": value}
