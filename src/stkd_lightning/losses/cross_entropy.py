"""Cross-entropy with mixed labels: mixup training, Zhang et al. 2018 (arXiv:1710.09412), Sec. 2.

Label smoothing: Szegedy et al. 2015 (arXiv:1512.00567), Sec. 7.
"""

import torch
from torch import Tensor

from stkd_lightning.losses.base import Loss, Terms
from stkd_lightning.losses.functional import log_softmax
from stkd_lightning.tasks.types import Mean, MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.distributed import gather
from stkd_lightning.utilities.dtypes import at_least_float32


def mixed_cross_entropy(
    student: Tensor, target: MixedTarget, *, mean: Mean = torch.mean, smoothing: float = 0.0
) -> Tensor:
    """``sum_k w_k CE(y_k)``, averaged over the batch.

    With class weights c it is ``sum w_k c(y_k) CE(y_k) / sum w_k c(y_k)``, both sums over the global batch. A smoothed
    label is 1 - ``smoothing`` of the label and ``smoothing`` of the uniform distribution over the classes.

    Args:
        student: logits ``(B, K)``.
        target: mixed labels ``(B, k)`` with weights that sum to 1, and perhaps weights of the classes.
        mean: mean over the samples ``(B,)``; a task that ignores some rows passes a mean over its valid rows.
        smoothing: in [0, 1].

    Returns:
        Scalar, nats per example.

    Example:
        >>> import torch
        >>> from stkd_lightning import MixedTarget
        >>> from stkd_lightning.losses import mixed_cross_entropy
        >>> target = MixedTarget(labels=torch.tensor([[0, 2]]), weights=torch.tensor([[0.75, 0.25]]))
        >>> mixed_cross_entropy(torch.zeros(1, 4), target)  # log 4
        tensor(1.3863)
    """
    log_probability = log_softmax(at_least_float32(student))
    label_log_probability = log_probability.gather(1, target.labels)
    weights = target.weights.to(label_log_probability.dtype)
    of_classes = target.class_weights
    if of_classes is not None:
        of_classes = of_classes.to(weights)
        weights = weights * of_classes[target.labels]
    right = (weights * label_log_probability).sum(1)
    if smoothing:
        uniform = (log_probability if of_classes is None else of_classes * log_probability).mean(1)
        right = torch.lerp(right, uniform, smoothing)
    if of_classes is None:
        return -mean(right)
    total = gather(mean(weights.sum(1))[None]).mean()  # DDP takes the mean over ranks of the quotients
    return -mean(right) / total.clamp(min=torch.finfo(total.dtype).tiny)


class CrossEntropyLoss(Loss):
    """Cross-entropy with the mixed label, without a teacher; term ``cross_entropy``.

    Args:
        label_smoothing: share in [0, 1] of the label that is divided equally between the classes.

    Raises:
        InputError: a share outside its range.
    """

    traceable = True
    needs_labels = False
    needs_teacher = False

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = validation.unit_interval("loss.label_smoothing", label_smoothing)

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"cross_entropy"}`` of the rows of logits; ``teacher`` is not read."""
        rows = target.rows(student.logits).with_label()
        smoothing = self.label_smoothing
        return {"cross_entropy": mixed_cross_entropy(rows.student, rows.target, mean=rows.mean, smoothing=smoothing)}
