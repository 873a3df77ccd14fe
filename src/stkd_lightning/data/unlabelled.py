"""Unlabelled training images: the order in which they join the batches of labelled ones."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stkd_lightning.utilities.random import generator


@dataclass(frozen=True)
class Unlabelled:
    """Unlabelled images of a training split.

    Their order is a permutation that continues over epochs; behind its end another one begins. So each image is seen
    equally often, and an image is a function of (seed, epoch, position).

    Attributes:
        indices: ``(P,)`` positions in the split, P > 0.
        count: U, number of them in each global batch.
        seed: >= 0.
    """

    indices: NDArray[np.int64]
    count: int
    seed: int

    def joined(self, order: NDArray[np.int64], epoch: int) -> NDArray[np.int64]:
        """Return the batches of an epoch with unlabelled images spread between the labelled ones.

        Any part of a batch has its share of both, so that ranks with equal parts see both kinds.

        Args:
            order: ``(N, B)`` positions in the split: N batches of B labelled images.
            epoch: counted from 0.

        Returns:
            ``(N, B + U)`` positions in the split.
        """
        batches, labelled = order.shape
        total = labelled + self.count
        places = np.arange(total)
        is_labelled = (places + 1) * labelled // total > places * labelled // total
        joined = np.empty((batches, total), dtype=np.int64)
        joined[:, is_labelled] = order
        joined[:, ~is_labelled] = self._drawn(epoch * batches * self.count, batches * self.count).reshape(batches, -1)
        return joined

    def _drawn(self, first: int, number: int) -> NDArray[np.int64]:
        """Return the images at positions ``first`` to ``first + number`` of the whole run."""
        rounds = range(first // len(self.indices), -(-(first + number) // len(self.indices)))
        if not rounds:
            return self.indices[:0]
        permutations = [generator(self.seed, "unlabelled", r).permutation(self.indices) for r in rounds]
        start = first - rounds[0] * len(self.indices)
        return np.concatenate(permutations)[start : start + number]
