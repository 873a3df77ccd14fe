"""Batches of a prepared split, as a function of (seed, epoch)."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from stkd_lightning.data.arrays import AnySplit
from stkd_lightning.data.augment import Augmentation
from stkd_lightning.data.batches import (
    Batches,
    Normalize,
    ResidentBatch,
    TrainEpoch,
    samples_of,
)
from stkd_lightning.data.decode import UnreadableImageError
from stkd_lightning.data.picture_split import FileSplit, PictureSplit
from stkd_lightning.data.sampling import Order
from stkd_lightning.data.unlabelled import Unlabelled
from stkd_lightning.tasks.types import Batch
from stkd_lightning.utilities import signals
from stkd_lightning.utilities.distributed import world
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.random import generator


def _set_worker_signals(worker: int) -> None:
    """Let a worker ignore the signals that end a run, which still needs it, and end with the run's process."""
    for number in signals.SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(60))
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.SIGNALS)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # torch compares the parent process with the first parent it saw, so a worker of a run that is killed early stays.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@dataclass(frozen=True)
class _Guarded(Dataset["Batch | UnreadableImageError"]):
    """Batches of worker processes; the error of an image is returned, since torch changes errors that are raised."""

    batches: Batches | TrainEpoch

    def __getitem__(self, i: int) -> Batch | UnreadableImageError:
        try:
            return self.batches[i]
        except UnreadableImageError as error:
            return error


def _read(made: Iterator[Batch | UnreadableImageError]) -> Iterator[Batch]:
    for batch in made:
        if isinstance(batch, UnreadableImageError):
            raise batch
        yield batch


def _batches(dataset: Batches | TrainEpoch, workers: int, first: int = 0) -> Iterator[Batch]:
    """Yield the batches from position ``first`` on, made in this process or by worker processes."""
    positions = range(first, len(dataset))
    if not workers:
        return (dataset[i] for i in positions)
    # Forked workers share the mapped file; pickling would copy all images.
    fork = "fork" if sys.platform == "linux" else None
    pinned = torch.cuda.is_available()
    loader = DataLoader(
        _Guarded(dataset),
        batch_size=None,
        sampler=positions,
        num_workers=workers,
        pin_memory=pinned,
        multiprocessing_context=fork,
        worker_init_fn=_set_worker_signals,
    )
    with signals.blocked():  # until the workers have set their signal handlers
        return _read(iter(loader))


class TrainLoader:
    """Augmented batches in a new order each epoch; each rank gets its slice of every global batch.

    An incomplete last batch is dropped. Lightning calls ``sampler.set_epoch`` before each epoch.

    Args:
        split: the images and labels.
        indices: ``(N,)`` positions in the split that belong to training.
        order: draws the batches of an epoch.
        batch_size: samples of a global batch, over all ranks.
        normalize: from uint8 to normalized float32.
        augmentation: makes the samples.
        seed: >= 0.
        workers: number of worker processes; 0: none. The batches are the same.
        check: called before each epoch; raises an error if the data changed.
        unlabelled: images that join the samples of each batch; ``None``: there are none.

    Raises:
        InputError: fewer samples than one batch, or a batch that the ranks cannot share equally.
    """

    def __init__(
        self,
        split: AnySplit,
        indices: NDArray[np.int64],
        *,
        order: Order,
        batch_size: int,
        normalize: Normalize,
        augmentation: Augmentation,
        seed: int,
        workers: int = 0,
        check: Callable[[], None] | None = None,
        unlabelled: Unlabelled | None = None,
    ) -> None:
        if batch_size > len(indices):
            raise InputError(f"dataset.batch_size={batch_size}: there are only {len(indices)} training samples")
        self.split, self.indices, self.order, self.batch_size = split, indices, order, batch_size
        self.normalize = normalize.to(split.inputs.device)
        self.augmentation, self.seed, self.epoch, self.workers = augmentation, seed, 0, workers
        self._first = self._done = 0
        self._check, self._unlabelled = check, unlabelled

    @property
    def per_image(self) -> bool:
        """True if samples are made one by one on the CPU, so that a step cannot make them."""
        return self.augmentation.per_image or isinstance(self.split, PictureSplit | FileSplit)

    @property
    def sampler(self) -> "TrainLoader":
        """This loader; Lightning calls ``set_epoch`` on it."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """Return the number of completed batches of the epoch, without the current batch."""
        return {"batches": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Skip the completed batches in the next iteration."""
        self._first = state["batches"]

    def __len__(self) -> int:
        return len(self.indices) // self.batch_size

    def tables(self) -> TrainEpoch:
        """Draw the epoch: order and augmentation of all samples, copied to the data's device at once.

        Raises:
            InputError: a batch that the ranks cannot share equally.
        """
        rank, ranks = world()
        order = self.indices[self.order(generator(self.seed, "order", self.epoch))]
        if self._unlabelled is not None:
            order = self._unlabelled.joined(order, self.epoch)
        total = order.shape[1]
        if total % ranks:
            added = f" with {total - self.batch_size} unlabelled images" if total > self.batch_size else ""
            raise InputError(f"dataset.batch_size={self.batch_size}{added}: must be a multiple of the {ranks} ranks")
        draws = self.augmentation.draw(order.ravel(), seed=self.seed, epoch=self.epoch)
        device, size = self.split.inputs.device, total // ranks
        return TrainEpoch(
            self.split,
            torch.from_numpy(order).to(device),
            tuple(part.to(device).view(order.shape) for part in draws),
            self.normalize,
            self.augmentation,
            first=rank * size,
            size=size,
        )

    def __iter__(self) -> "Iterator[Batch | ResidentBatch]":
        epoch = self.tables()
        if self._check is not None:
            self._check()
        first, self._first = self._first, 0
        made: Iterator[Batch | ResidentBatch] = _batches(epoch, self.workers, first)
        if not self.workers and not self.per_image:
            made = (ResidentBatch(epoch, i) for i in range(first, len(epoch)))
        for done, batch in enumerate(made, first):
            self._done = done
            yield batch


class EvalLoader:
    """Batches of every sample once; each rank gets every ``ranks``-th sample, without padding.

    Args:
        split: the images and labels.
        indices: ``(N,)`` positions in the split.
        batch_size: samples of a batch.
        normalize: from uint8 to normalized float32.
        workers: number of worker processes; 0: none.
    """

    def __init__(
        self,
        split: AnySplit,
        indices: NDArray[np.int64],
        *,
        batch_size: int,
        normalize: Normalize,
        workers: int = 0,
    ) -> None:
        self.split, self.indices, self.batch_size, self.workers = split, indices, batch_size, workers
        self.normalize = normalize.to(split.inputs.device)

    def normalized_by(self, normalize: Normalize) -> "EvalLoader":
        """Return a loader of the same samples with another normalization."""
        return EvalLoader(
            self.split, self.indices, batch_size=self.batch_size, normalize=normalize, workers=self.workers
        )

    def _dataset(self) -> Batches:
        rank, ranks = world()
        samples = torch.from_numpy(self.indices[rank::ranks]).to(self.split.inputs.device)
        return samples_of(self.split, samples, self.batch_size, self.normalize)

    def __len__(self) -> int:
        return len(self._dataset())

    def __iter__(self) -> Iterator[Batch]:
        yield from _batches(self._dataset(), self.workers)
