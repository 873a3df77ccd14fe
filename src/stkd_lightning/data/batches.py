"""Batches of a prepared split: the images of an evaluation, and the augmented samples of a training epoch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from stkd_lightning.data.arrays import AnySplit, MaskedSplit, Split
from stkd_lightning.data.augment import Augmentation
from stkd_lightning.data.clip_arrays import ClipSplit
from stkd_lightning.data.picture_split import FileSplit, PictureSplit
from stkd_lightning.tasks.types import Batch


class Normalize:
    """Normalize images ``(B, C, H, W)`` to float32 with mean 0 and standard deviation 1 in each channel.

    The images are uint8, or float32 of levels from 0 to 255, which are changed in place.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        mean_, std_ = torch.tensor(mean).double().view(-1, 1, 1), torch.tensor(std).double().view(-1, 1, 1)
        self.scale, self.shift = (1 / (255 * std_)).float(), (-mean_ / std_).float()

    @classmethod
    def by(cls, factor: float) -> "Normalize":
        """Multiply inputs of any shape by a number instead."""
        normalize = cls((0.0,), (1.0,))
        normalize.scale, normalize.shift = torch.tensor(factor), torch.tensor(0.0)
        return normalize

    def to(self, device: torch.device) -> "Normalize":
        """Move the constants to the images' device."""
        self.scale, self.shift = self.scale.to(device), self.shift.to(device)
        return self

    def __call__(self, images: Tensor) -> Tensor:
        return images.float().mul_(self.scale).add_(self.shift)


@dataclass(frozen=True)
class BatchDataset(Dataset[Batch]):
    """Some images of a split without augmentation; item i is the i-th batch.

    Attributes:
        split: the images and labels.
        order: ``(N,)`` positions in the split, on its device.
        batch_size: samples of a batch; the last batch may be smaller.
        normalize: from uint8 to normalized float32.
    """

    split: Split | PictureSplit | FileSplit
    order: Tensor
    batch_size: int
    normalize: Normalize

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, i: int) -> Batch:
        indices = self.order[i * self.batch_size : (i + 1) * self.batch_size]
        images = self.normalize(self.split.pictures(indices))
        return Batch(images, self.split.labels.index_select(0, indices), indices)


@dataclass(frozen=True)
class MaskBatchDataset(Dataset[Batch]):
    """Some images with masks at full size, without augmentation; item i is the i-th batch, of images of one size.

    Attributes:
        split: the images and masks.
        order: ``(N,)`` positions in the split.
        batch_size: largest number of samples of a batch.
        normalize: from uint8 to normalized float32.
    """

    split: MaskedSplit
    order: Tensor
    batch_size: int
    normalize: Normalize

    @cached_property
    def batches(self) -> tuple[tuple[int, ...], ...]:
        """Positions in the split by batch: images of one size follow each other."""
        by_size: dict[tuple[int, int], list[int]] = {}
        for index in self.order.tolist():
            height, width = self.split.sizes[index].tolist()
            by_size.setdefault((height, width), []).append(index)
        return tuple(part for indices in by_size.values() for part in batched(indices, self.batch_size))

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, i: int) -> Batch:
        indices = self.batches[i]
        images = self.normalize(torch.stack([self.split.image(j) for j in indices]))
        masks = torch.stack([self.split.mask(j) for j in indices]).long()
        return Batch(images, masks, torch.tensor(indices, device=self.order.device))


@dataclass(frozen=True)
class ClipBatchDataset(Dataset[Batch]):
    """Some whole clips with their tags, without augmentation; item i is the i-th batch.

    Attributes:
        split: the clips and tags; all clips are padded to the longest.
        order: ``(N,)`` positions in the split, on its device.
        batch_size: samples of a batch; the last batch may be smaller.
        normalize: from 16-bit samples to numbers in [-1, 1).
    """

    split: ClipSplit
    order: Tensor
    batch_size: int
    normalize: Normalize

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, i: int) -> Batch:
        indices = self.order[i * self.batch_size : (i + 1) * self.batch_size]
        clips = self.normalize(self.split.cut(indices, self.split.longest))
        return Batch(clips, self.split.labels.index_select(0, indices), indices)


Batches = BatchDataset | MaskBatchDataset | ClipBatchDataset


def samples_of(split: AnySplit, order: Tensor, batch_size: int, normalize: Normalize) -> Batches:
    """Return samples of a split without augmentation, in batches."""
    if isinstance(split, ClipSplit):
        return ClipBatchDataset(split, order, batch_size, normalize)
    if isinstance(split, MaskedSplit):
        return MaskBatchDataset(split, order, batch_size, normalize)
    return BatchDataset(split, order, batch_size, normalize)


def batched(items: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """Return items in groups of a size; the last group may be smaller."""
    return [tuple(items[first : first + size]) for first in range(0, len(items), size)]


@dataclass(frozen=True)
class TrainEpoch(Dataset[Batch]):
    """The augmented samples of a training epoch as tables; item i is this rank's part of the i-th global batch.

    A sample of the epoch is a function of the tables, so a rank can make any sample of the global batch by itself.

    Attributes:
        split: the images and labels.
        order: ``(N, G)`` positions in the split, on its device: N global batches of G samples.
        draws: of the augmentation of the samples, ``(N, G)`` each.
        normalize: from levels of 0 to 255 to normalized float32.
        augmentation: makes the samples from their draws.
        first: place of the rank's first sample in a global batch.
        size: number of the rank's samples in a batch.
    """

    split: AnySplit
    order: Tensor
    draws: tuple[Tensor, ...]
    normalize: Normalize
    augmentation: Augmentation
    first: int
    size: int

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, i: int) -> Batch:
        places = slice(self.first, self.first + self.size)
        return self._made(self.order[i, places], tuple(part[i, places] for part in self.draws))

    def samples(self, position: Tensor | int, places: Tensor) -> Batch:
        """Make samples of a global batch, whichever rank they belong to.

        Args:
            position: of the batch in the epoch; as a tensor ``()`` on the device it is not a constant of compiled code.
            places: ``(n,)`` places in the global batch, on the device.
        """
        return self._made(*self._rows(position, places))

    def labels(self, position: Tensor | int, places: Tensor) -> Tensor:
        """Return the labels of samples of a global batch, for places of any shape."""
        labels = self.augmentation.labels(self.split, *self._rows(position, places.flatten()))
        return labels.view(*places.shape, *labels.shape[1:])

    def _rows(self, position: Tensor | int, places: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        rows = position * self.order.shape[1] + places
        indices, *draws = (table.flatten().index_select(0, rows) for table in (self.order, *self.draws))
        return indices, tuple(draws)

    def _made(self, indices: Tensor, draws: tuple[Tensor, ...]) -> Batch:
        images = self.augmentation.images(self.split, indices, draws)
        return Batch(self.normalize(images), self.augmentation.labels(self.split, indices, draws), indices)


class ResidentBatch:
    """A batch of an epoch whose data are on the training device; it reads like a ``Batch`` and is made when it is read.

    It is no tuple: a training that is traced makes the samples by itself, and does not see changes of their tensors.

    Args:
        epoch: the tables.
        position: of the batch in the epoch.
        convert: applied to the inputs, as a trainer's precision converts those of other batches.
    """

    def __init__(self, epoch: TrainEpoch, position: int, convert: Callable[[Tensor], Tensor] | None = None) -> None:
        self.epoch, self.position, self._convert = epoch, position, convert

    def converted(self, convert: Callable[[Tensor], Tensor]) -> "ResidentBatch":
        """Return the batch with inputs that are converted when they are made, or now if they were read before."""
        converted = ResidentBatch(self.epoch, self.position, convert)
        if "batch" in self.__dict__:  # a callback may have changed its tensors
            converted.__dict__["batch"] = self.batch._replace(inputs=convert(self.batch.inputs))
        return converted

    def at(self, position: int) -> "ResidentBatch":
        """Return another batch of the epoch."""
        return ResidentBatch(self.epoch, position, self._convert)

    @property
    def size(self) -> int:
        """Number of samples; the batch is not made for it."""
        return self.epoch.size

    @cached_property
    def batch(self) -> Batch:
        """The samples."""
        made = self.epoch[self.position]
        return made if self._convert is None else made._replace(inputs=self._convert(made.inputs))

    def images_at(self, places: Tensor) -> Tensor:
        """Make the images at places ``(n,)`` of the global batch, whichever rank they belong to."""
        images = self.epoch.samples(self.position, places).inputs
        return images if self._convert is None else self._convert(images)

    def labels_at(self, places: Tensor) -> Tensor:
        """Return the labels at places of any shape in the global batch."""
        return self.epoch.labels(self.position, places)

    @property
    def inputs(self) -> Tensor:
        """Normalized inputs ``(B, C, H, W)``."""
        return self.batch.inputs

    @property
    def images(self) -> Tensor:
        """The inputs."""
        return self.batch.inputs

    @property
    def labels(self) -> Tensor:
        """Labels ``(B, ...)``."""
        return self.batch.labels

    @property
    def indices(self) -> Tensor | None:
        """Positions in the data set ``(B,)``."""
        return self.batch.indices

    @property
    def lengths(self) -> Tensor | None:
        """Valid positions; ``None``: all are valid."""
        return self.batch.lengths

    def __getitem__(self, i: Any) -> Any:
        return self.batch[i]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batch)

    def __len__(self) -> int:
        return len(self.batch)

    def to(self, device: torch.device | str, **options: Any) -> "ResidentBatch | Batch":
        """Return the batch on a device; on its own device nothing is made."""
        if torch.empty(0, device=device).device == self.epoch.order.device:
            return self
        parts: list[Any] = [None if part is None else part.to(device, **options) for part in self.batch]
        return Batch(*parts)
