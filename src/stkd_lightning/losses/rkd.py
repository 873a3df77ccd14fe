"""Relational Knowledge Distillation: Park et al. 2019, Sec. 3.2 (arXiv:1904.05068)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from stkd_lightning.losses.base import Terms, full_precision
from stkd_lightning.losses.feature_loss import PairwiseLoss, check_pairs
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation


@full_precision
def relational(
    student: Tensor, teacher: Tensor, *, distance_weight: float = 25.0, angle_weight: float = 50.0
) -> Tensor:
    """Distances between two samples and angles between three, compared by the Huber loss (Eq. 5 to 9).

    Distances are divided by their mean over the pairs of two different samples; angles are compared by their cosines.
    The loss averages over all ``B**2`` pairs and all ``B**3`` triples, as in the authors' code, and the default weights
    belong to these means. The angles need memory for ``B**2 d`` and ``B**3`` numbers.

    Args:
        student: embeddings ``(B, ...)``; carries the gradient.
        teacher: embeddings ``(B, ...)`` of any size; treated as a constant.
        distance_weight: >= 0.
        angle_weight: >= 0.

    Returns:
        Scalar, dimensionless.

    Raises:
        InputError: the batch has one sample.
        ValueError: the batches have different sizes.
    """
    check_pairs(student, teacher)
    student, teacher = student.flatten(1), teacher.detach().flatten(1)
    student_distances, teacher_distances = _distances(student), _distances(teacher)
    distance = F.smooth_l1_loss(_over_mean(student_distances), _over_mean(teacher_distances))
    if not angle_weight:
        return distance_weight * distance
    angle = F.smooth_l1_loss(_cosines(student, student_distances), _cosines(teacher, teacher_distances))
    return distance_weight * distance + angle_weight * angle


def _distances(embeddings: Tensor) -> Tensor:
    """Return Euclidean distances ``(B, B)``, without a matrix product, which loses digits of small distances."""
    return torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")


def _over_mean(distances: Tensor) -> Tensor:
    mean = distances.sum() / (len(distances) * (len(distances) - 1))
    return distances / torch.where(mean > 0, mean, torch.ones_like(mean))


def _cosines(embeddings: Tensor, distances: Tensor) -> Tensor:
    """Return ``(B, B, B)``: at [i, j, k] the cosine at sample i between j and k; 0 where i coincides with j or k."""
    apart = (distances > 0)[:, :, None]
    difference = embeddings[None] - embeddings[:, None]
    # Between coinciding samples the direction and its gradient are 0.
    direction = torch.where(apart, difference / torch.where(apart, distances[:, :, None], 1.0), 0.0)
    return direction @ direction.transpose(1, 2)


class RKDLoss(PairwiseLoss):
    """``relational`` over the global batch, by default of the pooled features; term ``rkd``.

    In the literature the term is added to cross-entropy.

    Args:
        distance_weight: >= 0.
        angle_weight: >= 0.
        student_layers: module path; see ``FeatureLoss``.
        teacher_layers: module path.

    Raises:
        InputError: an argument outside its range.
    """

    traceable = True
    smallest_batch = 3  # two samples have a single distance, equal to the mean, and no angle

    def __init__(
        self,
        *,
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
        student_layers: str | Sequence[str] | None = None,
        teacher_layers: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(student_layers=student_layers, teacher_layers=teacher_layers)
        self.distance_weight = validation.non_negative("loss.distance_weight", distance_weight)
        self.angle_weight = validation.non_negative("loss.angle_weight", angle_weight)

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"rkd"}`` of features ``(B, ...)``."""
        samples = self.samples(student, teacher)
        return {"rkd": relational(*samples, distance_weight=self.distance_weight, angle_weight=self.angle_weight)}
