"""Shares of each class of the training images: for validation where there is no such split, and to train on."""

import numpy as np
from numpy.typing import NDArray


def hold_out(labels: NDArray[np.int64], fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split sample positions in two, class by class.

    Args:
        labels: ``(N,)``.
        fraction: share in [0, 1) of each class that is held out, rounded to whole samples. Above 0, a class of
            2 or more samples has at least one in each part; a single sample is not held out.
        seed: >= 0.

    Returns:
        Positions of training samples and of held-out samples, each sorted.
    """
    random = np.random.default_rng(seed)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        count = round(fraction * len(members))
        if fraction > 0:
            count = min(max(count, 1), len(members) - 1)
        held[members[:count]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def draw_share(labels: NDArray[np.int64], fraction: float, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw a share of each class.

    Args:
        labels: ``(N,)``.
        fraction: share in (0, 1] of each class, rounded to whole samples, but at least one.
        random: of the draws.

    Returns:
        Sorted positions of the drawn samples.
    """
    drawn = [
        random.permutation(members)[: max(1, round(fraction * len(members)))]
        for members in (np.flatnonzero(labels == label) for label in np.unique(labels))
    ]
    return np.sort(np.concatenate(drawn))
