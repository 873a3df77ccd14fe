"""Probabilistic Knowledge Transfer: Passalis and Tefas 2018, Sec. 3 (arXiv:1803.10837)."""

import torch
from torch import Tensor

from stkd_lightning.losses.base import Terms, full_precision
from stkd_lightning.losses.feature_loss import PairwiseLoss, check_pairs
from stkd_lightning.losses.functional import unit
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext


@full_precision
def probabilistic_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """``1 / B**2 sum_ij p_ij log(p_ij / q_ij)``, p of the teacher, q of the student.

    Rows of p and q are the samples' cosine similarities mapped to [0, 1], (cos + 1) / 2, divided by their sum; a row
    includes the sample itself, as in the authors' code. They add 1e-7 to norms and arguments of logarithms; with up to
    256 samples this changes value and gradient by less than 3e-4 of themselves.

    Args:
        student: embeddings ``(B, ...)``; carries the gradient.
        teacher: embeddings ``(B, ...)`` of any size; treated as a constant.

    Returns:
        Scalar, nats; the mean over pairs, which is ``1 / B`` of the mean divergence of a row.

    Raises:
        InputError: the batch has one sample.
        ValueError: the batches have different sizes.
    """
    check_pairs(student, teacher)
    p, q = _conditional(teacher.detach()), _conditional(student)
    # Opposite samples have similarity 0; the smallest positive number keeps its logarithm finite.
    log_q = q.clamp(min=torch.finfo(q.dtype).tiny).log()
    return (torch.special.xlogy(p, p) - p * log_q).mean()


def _conditional(embeddings: Tensor) -> Tensor:
    direction = unit(embeddings.flatten(1))
    similarity = ((direction @ direction.T + 1) / 2).clamp(min=0)  # rounding can give a cosine below -1
    return similarity / similarity.sum(1, keepdim=True)


class PKTLoss(PairwiseLoss):
    """``probabilistic_transfer`` over the global batch, by default of the pooled features; term ``pkt``.

    In the literature the term is added to cross-entropy with weight 30000.

    Args:
        student_layers: module path; see ``FeatureLoss``.
        teacher_layers: module path.
    """

    traceable = True

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"pkt"}`` of features ``(B, ...)``."""
        return {"pkt": probabilistic_transfer(*self.samples(student, teacher))}
