"""Shares of each class of the training images: for validation where there is no such split, training, calibration."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stkd_lightning.tasks.types import UNLABELLED
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.random import generator


@dataclass(frozen=True)
class TrainingParts:
    """Positions in the training split, each sorted.

    Attributes:
        trained: images that are trained on with their labels.
        held_out: images for validation.
        unlabelled: images that may be trained on without labels: those that have none, if there are some, else the
            labelled ones that are neither trained on nor held out.
    """

    trained: NDArray[np.int64]
    held_out: NDArray[np.int64]
    unlabelled: NDArray[np.int64]


def divide(
    labels: NDArray[np.int64], validation_fraction: float, split_seed: int, train_fraction: float, train_seed: int
) -> TrainingParts:
    """Divide the training split.

    Args:
        labels: ``(N,)``, ``UNLABELLED`` where an image has none; or ``(N, ...)``, of which nothing can be held out.
        validation_fraction: share of each class that is held out; see ``hold_out``.
        split_seed: of the held-out images.
        train_fraction: share of the rest of each class that is trained on; see ``draw_share``.
        train_seed: of that share.

    Raises:
        InputError: images are to be held out, but no class has two.
    """
    has_label = np.ones(len(labels), dtype=bool) if labels.ndim > 1 else labels != UNLABELLED
    labelled = np.flatnonzero(has_label)
    kept, held_out = (labelled[part] for part in hold_out(labels[labelled], validation_fraction, split_seed))
    if validation_fraction > 0 and not len(held_out):
        raise InputError(
            f"dataset.validation_fraction={validation_fraction}: no class has 2 training images, so none can be held "
            "out; 0 trains on all images"
        )
    trained = kept
    if train_fraction < 1:
        trained = kept[draw_share(labels[kept], train_fraction, generator(train_seed, "train_fraction"))]
    without = np.flatnonzero(~has_label)
    return TrainingParts(trained, held_out, without if len(without) else np.setdiff1d(kept, trained))


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


def spread(labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Choose samples at equal distances in the order of their classes, so that each class has its share.

    Args:
        labels: ``(N,)``.
        count: of the samples; N or more chooses all.

    Returns:
        Sorted positions of the chosen samples.
    """
    count = min(count, len(labels))
    places = (2 * np.arange(count) + 1) * len(labels) // (2 * count)
    return np.sort(np.argsort(labels, kind="stable")[places])
