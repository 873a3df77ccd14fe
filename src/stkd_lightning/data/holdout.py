"""Validation images for data sets without a validation split: a share of each class of the training images."""

import numpy as np
from numpy.typing import NDArray


def hold_out(labels: NDArray[np.int64], fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split sample positions in two, class by class.

    Args:
        labels: ``(N,)``.
        fraction: share in [0, 1) of each class that is held out, rounded to whole samples.
        seed: >= 0.

    Returns:
        Positions of training samples and of held-out samples, each sorted.
    """
    random = np.random.default_rng(seed)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        held[members[: round(fraction * len(members))]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)
