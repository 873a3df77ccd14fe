"""Unlabelled training images: the order in which they join the batches of labelled ones."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stkd_lightning.data.arrays import AnySplit, MaskedSplit
from stkd_lightning.data.clip_arrays import ClipSplit
from stkd_lightning.tasks.base import Task
from stkd_lightning.tasks.classification import Classification
from stkd_lightning.tasks.types import UNLABELLED
from stkd_lightning.utilities.errors import InputError
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


def chosen(indices: NDArray[np.int64], count: int, seed: int, ratio: float, task: Task) -> Unlabelled:
    """Return the unlabelled images of a training.

    Args:
        indices: their positions in the split.
        count: number of them in each global batch, above 0.
        seed: of their order.
        ratio: ``dataset.unlabeled_ratio``, for messages.
        task: of the data.

    Raises:
        InputError: there are none, or the task has no class for each image.
    """
    option = f"dataset.unlabeled_ratio={ratio}"
    if not isinstance(task, Classification):
        raise InputError(f"{option}: needs data with a class for each image, not {task.name}; set 0")
    if not len(indices):
        raise InputError(
            f"{option}: there are no unlabelled images; set dataset.unlabeled_dir=FOLDER (image_folder, imagenet), "
            "or dataset.train_fraction below 1 for the images that it leaves"
        )
    return Unlabelled(indices, count, seed)


def without_labels(split: AnySplit, indices: NDArray[np.int64]) -> AnySplit:
    """Return a split in which the images at some positions have no label; the split itself stays."""
    if isinstance(split, MaskedSplit | ClipSplit):
        raise TypeError(f"{type(split).__name__} has no label for each image")
    hidden = torch.from_numpy(indices).to(split.labels.device)
    return split._replace(labels=split.labels.index_fill(0, hidden, UNLABELLED))
