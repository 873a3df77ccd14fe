"""What several losses compute: directions of vectors, and the linear warm-up of a term."""

import torch
from torch import Tensor

from stkd_lightning.tasks.types import StepContext


def unit(vectors: Tensor) -> Tensor:
    """Divide vectors ``(..., d)`` by their L2 norms; a vector of 0 stays so, with gradients of 0."""
    norm = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return torch.where(norm > 0, vectors / torch.where(norm > 0, norm, 1.0), 0.0)


def unit_deviations(vectors: Tensor) -> Tensor:
    """Subtract from vectors ``(..., d)`` the means of their entries, and return the directions of what is left.

    Equal entries give 0: their mean is rounded, and what is left of them would be blown up.
    """
    differ = vectors.amax(-1, keepdim=True) > vectors.amin(-1, keepdim=True)
    return unit(torch.where(differ, vectors - vectors.mean(-1, keepdim=True), 0.0))


def warmed_up(context: StepContext | None, share: float) -> float:
    """Return the factor in (0, 1] of a term in an epoch.

    Args:
        context: where the run stands; ``None``: past the warm-up.
        share: of the run's epochs in which the factor grows, in equal steps to 1.
    """
    if context is None or share == 0:
        return 1.0
    return min(1.0, (context.epoch + 1) / (share * context.max_epochs))
