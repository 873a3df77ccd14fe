"""Batches of a prepared split, as a function of (seed, epoch)."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stkd_lightning.data.arrays import Split
from stkd_lightning.data.augment import crop_and_flip
from stkd_lightning.distributed import world
from stkd_lightning.errors import InputError
from stkd_lightning.outputs import Batch
from stkd_lightning.randomness import generator


class Normalize:
    """uint8 images ``(B, C, H, W)`` to float32 of mean 0 and standard deviation 1 in each channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        mean_, std_ = torch.tensor(mean).double().view(-1, 1, 1), torch.tensor(std).double().view(-1, 1, 1)
        self.scale, self.shift = (1 / (255 * std_)).float(), (-mean_ / std_).float()

    def __call__(self, images: Tensor) -> Tensor:
        return images.float().mul_(self.scale).add_(self.shift)


def _take(split: Split, positions: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
    indices = torch.from_numpy(positions)
    return torch.from_numpy(split.images[positions]), torch.from_numpy(split.labels[positions]), indices


class TrainLoader:
    """Augmented batches in a new order each epoch; a rank sees its slice of every global batch.

    The last, incomplete batch of an epoch is left out. Lightning announces the epoch to ``sampler.set_epoch``.

    Args:
        split: the data.
        indices: ``(N,)`` positions in the split that belong to training.
        batch_size: samples of a global batch, over all ranks.
        normalize: from uint8 to what networks see.
        padding: pixels of the random shift.
        flip: mirror half of the images.
        seed: >= 0.

    Raises:
        InputError: fewer samples than one batch, or a batch that the ranks cannot share equally.
    """

    def __init__(
        self,
        split: Split,
        indices: NDArray[np.int64],
        *,
        batch_size: int,
        normalize: Normalize,
        padding: int,
        flip: bool,
        seed: int,
    ) -> None:
        if batch_size > len(indices):
            raise InputError(f"dataset.batch_size={batch_size}: there are only {len(indices)} training images")
        self.split, self.indices, self.batch_size, self.normalize = split, indices, batch_size, normalize
        self.padding, self.flip, self.seed, self.epoch = padding, flip, seed, 0

    @property
    def sampler(self) -> "TrainLoader":
        """The object that Lightning tells the epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.indices) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        rank, ranks = world()
        if self.batch_size % ranks:
            raise InputError(f"dataset.batch_size={self.batch_size}: {ranks} ranks cannot share it equally")
        own = self.batch_size // ranks
        order = self.indices[generator(self.seed, "order", self.epoch).permutation(len(self.indices))]
        for batch in range(len(self)):
            start = batch * self.batch_size + rank * own
            images, labels, indices = _take(self.split, order[start : start + own])
            images = crop_and_flip(
                images, indices, padding=self.padding, flip=self.flip, seed=self.seed, epoch=self.epoch
            )
            yield Batch(self.normalize(images), labels, indices)


class EvalLoader:
    """Every sample once, in order; each rank sees every ``ranks``-th, without padding.

    Args:
        split: the data.
        indices: ``(N,)`` positions in the split.
        batch_size: samples of one batch.
        normalize: from uint8 to what networks see.
    """

    def __init__(self, split: Split, indices: NDArray[np.int64], *, batch_size: int, normalize: Normalize) -> None:
        self.split, self.indices, self.batch_size, self.normalize = split, indices, batch_size, normalize

    def _own(self) -> NDArray[np.int64]:
        rank, ranks = world()
        return self.indices[rank::ranks]

    def __len__(self) -> int:
        return -(-len(self._own()) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        own = self._own()
        for start in range(0, len(own), self.batch_size):
            images, labels, indices = _take(self.split, own[start : start + self.batch_size])
            yield Batch(self.normalize(images), labels, indices)
