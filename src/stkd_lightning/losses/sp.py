"""Similarity-Preserving Knowledge Distillation: Tung and Mori 2019, Sec. 3.1 (arXiv:1907.09682)."""

from torch import Tensor

from stkd_lightning.losses.base import Terms, full_precision
from stkd_lightning.losses.feature_loss import PairwiseLoss, check_pairs
from stkd_lightning.losses.functional import unit
from stkd_lightning.models.layers import Layers
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext


@full_precision
def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    """``||G_t - G_s||_F**2 / B**2`` of the samples' inner products, with L2-normalized rows (Eq. 1 to 4).

    Args:
        student: features ``(B, ...)``; carries the gradient.
        teacher: features ``(B, ...)`` of any size; treated as a constant.

    Returns:
        Scalar, dimensionless.

    Raises:
        InputError: the batch has one sample.
        ValueError: the batches have different sizes.

    Example:
        >>> import torch
        >>> from stkd_lightning.losses import similarity_preserving
        >>> teacher = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
        >>> similarity_preserving(torch.eye(3), teacher)
        tensor(0.1626)
    """
    check_pairs(student, teacher)
    return (_similarities(teacher.detach()) - _similarities(student)).square().mean()


def _similarities(features: Tensor) -> Tensor:
    flat = features.flatten(1)
    return unit(flat @ flat.T)


class SPLoss(PairwiseLoss):
    """``similarity_preserving`` over the global batch; term ``sp``.

    The default layer is the last stage's feature map, also in networks that transform it further before pooling (wrn,
    ShuffleV2, MobileNetV2), as in RepDistiller; transformers, which have no stages, are read pooled. In the
    literature the term is added to cross-entropy with weight 3000 at batch 64.

    Args:
        student_layers: module path; see ``FeatureLoss``.
        teacher_layers: module path.
    """

    traceable = True

    @staticmethod
    def default_layers(layers: Layers) -> tuple[str, ...]:
        """Return the last stage; of a network without stages, such as a transformer, the pooled features."""
        return layers.stages[-1:] or (layers.embedding,)

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"sp"}`` of features ``(B, ...)``."""
        return {"sp": similarity_preserving(*self.samples(student, teacher))}
