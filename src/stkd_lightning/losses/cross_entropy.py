"""Cross-entropy with mixed labels: mixup training, Zhang et al. 2018 (arXiv:1710.09412), Sec. 2."""

import torch
from torch import Tensor

from stkd_lightning.losses.base import Loss, Terms
from stkd_lightning.losses.functional import log_softmax
from stkd_lightning.tasks.types import Mean, MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities.distributed import gather
from stkd_lightning.utilities.dtypes import at_least_float32


def mixed_cross_entropy(student: Tensor, target: MixedTarget, *, mean: Mean = torch.mean) -> Tensor:
    """``sum_k w_k CE(y_k)``, averaged over the batch.

    With class weights c it is ``sum w_k c(y_k) CE(y_k) / sum w_k c(y_k)``, both sums over the global batch.

    Args:
        student: logits ``(B, K)``.
        target: mixed labels ``(B, k)`` with weights that sum to 1, and perhaps weights of the classes.
        mean: mean over the samples ``(B,)``; a task that ignores some rows passes a mean over its valid rows.

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
    if target.class_weights is None:
        return -mean((weights * label_log_probability).sum(1))
    weights = weights * target.class_weights.to(weights)[target.labels]
    total = gather(mean(weights.sum(1))[None]).mean()  # DDP takes the mean over ranks of the quotients
    return -mean((weights * label_log_probability).sum(1)) / total.clamp(min=torch.finfo(total.dtype).tiny)


class CrossEntropyLoss(Loss):
    """Cross-entropy with the mixed label, without a teacher; term ``cross_entropy``."""

    traceable = True
    needs_teacher = False

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"cross_entropy"}`` of the rows of logits; ``teacher`` is not read."""
        rows = target.rows(student.logits)
        return {"cross_entropy": mixed_cross_entropy(rows.student, rows.target, mean=rows.mean)}
