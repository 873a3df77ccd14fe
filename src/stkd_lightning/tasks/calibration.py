"""Calibration: predictions binned by confidence, for the metric and for the picture (Guo et al. 2017, Sec. 2 and 3).

arXiv:1706.04599. Sums are whole numbers, so that they are the same in any order and over any number of ranks.
"""

import torch
from torch import Tensor
from torchmetrics import Metric

from stkd_lightning.utilities.dtypes import at_least_float32

BINS = 15  # of equal width over [0, 1]
UNIT = 1 << 30  # of a confidence of 1 in the sums


def confidence_sums(logits: Tensor, labels: Tensor, bins: int = BINS) -> Tensor:
    """Bin predictions ``(N, K)`` with labels ``(N,)`` by their confidence; NaN counts as 0. See ``binned``."""
    confidence = at_least_float32(logits).softmax(1).amax(1).nan_to_num(0)
    return binned(confidence, logits.argmax(1) == labels, bins)


def binned(shares: Tensor, is_right: Tensor, bins: int = BINS) -> Tensor:
    """Bin predictions by their confidence; a bin holds its upper edge, so that the last bin holds confidence 1.

    Args:
        shares: confidence of each prediction in [0, 1], ``(N,)``.
        is_right: whether it is correct ``(N,)``.
        bins: number of bins.

    Returns:
        ``(3, bins)`` int64: number of predictions, sum of their confidence in units of ``1 / UNIT``, number of correct
        ones.
    """
    confidence = (shares * UNIT).long()
    index = ((confidence * bins - 1) // UNIT).clamp(0, bins - 1)
    values = torch.stack([torch.ones_like(confidence), confidence, is_right.long()])
    return values.new_zeros(3, bins).index_add(1, index, values)


def reliability(sums: Tensor) -> Tensor:
    """Return a reliability diagram of ``confidence_sums``.

    Returns:
        ``(3, bins)``: number of predictions, mean confidence, accuracy; the latter two are 0 in empty bins.
    """
    count, confidence, correct = sums
    filled = count.clamp(min=1)
    return torch.stack([count.float(), confidence / (filled * UNIT), correct / filled])


def calibration_error(sums: Tensor) -> Tensor:
    """Return the expected calibration error of ``confidence_sums`` in [0, 1] (Eq. 3); NaN without predictions."""
    count, confidence, correct = sums
    return (confidence - correct * UNIT).abs().sum() / (count.sum() * UNIT)


class CalibrationError(Metric):
    """The expected calibration error over all batches and ranks."""

    full_state_update = False
    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(3, BINS, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add predictions ``(B, K)`` with labels ``(B,)``."""
        self.sums += confidence_sums(logits, labels)

    def compute(self) -> Tensor:
        """Return ``calibration_error``."""
        return calibration_error(self.sums)
