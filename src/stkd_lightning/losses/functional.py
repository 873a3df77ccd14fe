"""Functions shared by several losses: softmaxes of rows, directions of vectors, and the linear warm-up of a term."""

import torch
from torch import Tensor
from torch.nn import functional as F

from stkd_lightning.tasks.types import StepContext
from stkd_lightning.utilities.dtypes import at_least_float32


def unit(vectors: Tensor) -> Tensor:
    """Divide vectors ``(..., d)`` by their L2 norms; a zero vector stays zero, with zero gradients."""
    norm = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return torch.where(norm > 0, vectors / torch.where(norm > 0, norm, 1.0), 0.0)


def unit_deviations(vectors: Tensor) -> Tensor:
    """Subtract from vectors ``(..., d)`` the means of their entries, and return the directions of the differences.

    Equal entries give 0: their mean is rounded, and division by the norm would magnify the rounding error.
    """
    differ = vectors.amax(-1, keepdim=True) > vectors.amin(-1, keepdim=True)
    return unit(torch.where(differ, vectors - vectors.mean(-1, keepdim=True), 0.0))


def log_softmax(rows: Tensor) -> Tensor:
    """Return the logarithms of softmaxes over the classes of rows ``(N, K)``, in the order in which they are stored."""
    return F.log_softmax(rows, dim=1) if rows.is_contiguous() else F.log_softmax(rows.T, dim=0).T


def standardized(logits: Tensor) -> Tensor:
    """Standardize logits: subtract their mean over the classes, and divide by their standard deviation.

    Sun et al. 2024, Sec. 3.3 and Alg. 1 (arXiv:2403.01427). The deviation is the sample's, over K - 1, as in the
    authors' code; the paper's is over K. The authors also add 1e-7 to the deviation: a factor of 1 + 1e-7 at a
    deviation of 1. Here nothing is added, and equal logits give 0.

    Args:
        logits: ``(..., K)``, float32 or float64.
    """
    # (z - mean) / deviation is the direction of z - mean, times sqrt(K - 1).
    return (logits.shape[-1] - 1) ** 0.5 * unit_deviations(logits)


def softened(logits: Tensor, temperature: float | Tensor, *, standardize: bool = False) -> Tensor:
    """Return the logarithms of softmaxes at a temperature, in float32 or better.

    Args:
        logits: rows ``(N, K)``.
        temperature: T > 0; of standardized logits in units of the standard deviation.
        standardize: whether each row is standardized first.
    """
    logits = at_least_float32(logits)
    return log_softmax((standardized(logits) if standardize else logits) / temperature)


def warmup_factor(context: StepContext | None, share: float) -> float:
    """Return a term's warm-up factor, in (0, 1].

    Args:
        context: position of the run; ``None``: after the warm-up.
        share: share in [0, 1] of the run's epochs over which the factor grows to 1 in equal steps.
    """
    if context is None or share == 0:
        return 1.0
    return min(1.0, (context.epoch + 1) / (share * context.max_epochs))
