"""Whole splits as memory-mapped arrays: images uint8, clips int16."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2.functional import resized_crop

from stkd_lightning.data.clip_arrays import ClipSplit, RawClips
from stkd_lightning.data.decode import Box, UnreadableImageError
from stkd_lightning.data.picture_split import (
    BICUBIC,
    FileSplit,
    PictureSplit,
    RawFiles,
    RawPictures,
    whole_box,
)
from stkd_lightning.utilities.errors import RunError

FORMAT = 2
FACTS = "facts.json"

Stamp = tuple[int, int, int]  # size, modification time in ns, inode


class RawSplit(NamedTuple):
    """A split as it is read, before it is written to the cache.

    Attributes:
        labels: one class index for each image, or an array ``(n, ...)`` of the task's shape.
        images: chunks ``(n, C, H, W)`` uint8, in the order of the labels.
        shape: ``(C, H, W)``.
        unreadable: errors by position in the labels; the images leave these out. It is filled while they are read.
    """

    labels: list[int] | NDArray[np.int64]
    images: Iterable[NDArray[np.uint8]]
    shape: tuple[int, int, int]
    unreadable: Mapping[int, UnreadableImageError] = MappingProxyType({})


class RawMasks(NamedTuple):
    """A split of images with masks as it is read, before it is written to the cache.

    Attributes:
        sizes: ``(N, 2)`` int64: height and width of each image.
        samples: images ``(C, h, w)`` uint8, each with its mask ``(h, w)`` uint8 of classes.
        channels: C.
    """

    sizes: NDArray[np.int64]
    samples: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]]
    channels: int = 3


AnyRaw = RawSplit | RawMasks | RawPictures | RawFiles | RawClips


class RawData(NamedTuple):
    """A data set as it is read, before it is written to the cache.

    Attributes:
        splits: by name: ``train``, ``test``, and ``val`` if the data set has one.
        class_names: in the order of the labels.
        superclasses: index of each class's superclass; ``None`` if the data set has none.
        superclass_names: in the order of those indices.
        sample_rate: Hz of clips; ``None`` for images.
    """

    splits: Mapping[str, AnyRaw]
    class_names: list[str]
    superclasses: list[int] | None = None
    superclass_names: list[str] | None = None
    sample_rate: int | None = None


class Split(NamedTuple):
    """Images ``(N, C, H, W)`` uint8 and labels ``(N,)`` int64 on one device; on the CPU images are memory-mapped."""

    images: Tensor
    labels: Tensor

    def to(self, device: torch.device | str) -> "Split":
        """Return the split on a device; the CPU reads no pixel before it is used."""
        return Split(self.images.to(device), self.labels.to(device))

    @property
    def inputs(self) -> Tensor:
        """The images."""
        return self.images

    @property
    def samples(self) -> int:
        """Number of images."""
        return len(self.labels)

    def sides(self, i: int) -> tuple[int, int]:
        """Return height and width of an image."""
        height, width = self.images.shape[2:]
        return height, width

    def pictures(self, indices: Tensor) -> Tensor:
        """Return images ``(B, C, H, W)`` uint8."""
        return self.images.index_select(0, indices)

    def crop(self, i: int, box: Box, size: tuple[int, int]) -> Tensor:
        """Return a part of an image, resized.

        Args:
            i: position in the split.
            box: first row and column, height and width of the part, in pixels.
            size: height and width of the result.

        Returns:
            ``(C, *size)`` uint8.
        """
        return resized_crop(self.images[i], *whole_box(box), list(size), BICUBIC, antialias=True)


class MaskedSplit(NamedTuple):
    """Images of any sides with their masks on one device, each kind in a row; on the CPU they are memory-mapped.

    Attributes:
        images: ``(C * P,)`` uint8: the bytes of all images ``(C, h, w)``.
        labels: ``(P,)`` uint8: the classes of all masks ``(h, w)``.
        sizes: ``(N, 2)`` int64: height and width.
        starts: ``(N,)`` int64: position of each image's first pixel among the P pixels.
        size: height and width of all images; ``None`` where they differ.
    """

    images: Tensor
    labels: Tensor
    sizes: Tensor
    starts: Tensor
    size: tuple[int, int] | None

    @classmethod
    def of(cls, images: Tensor, labels: Tensor, sizes: Tensor) -> "MaskedSplit":
        """Hold images and masks of these sizes."""
        pixels = sizes.prod(1)
        height, width = sizes[0].tolist()
        return cls(
            images, labels, sizes, pixels.cumsum(0) - pixels, (height, width) if (sizes == sizes[0]).all() else None
        )

    def to(self, device: torch.device | str) -> "MaskedSplit":
        """Return the split on a device; the CPU reads no pixel before it is used."""
        images, labels, sizes, starts = (part.to(device) for part in self[:4])
        return MaskedSplit(images, labels, sizes, starts, self.size)

    @property
    def inputs(self) -> Tensor:
        """The bytes of all images."""
        return self.images

    @property
    def samples(self) -> int:
        """Number of images."""
        return len(self.sizes)

    @property
    def channels(self) -> int:
        """Number of channels, C."""
        return len(self.images) // len(self.labels)

    def image(self, i: int) -> Tensor:
        """Return an image ``(C, h, w)`` uint8, without a copy."""
        height, width = self.sizes[i].tolist()
        start, channels = int(self.starts[i]), self.channels
        return self.images[channels * start : channels * (start + height * width)].view(channels, height, width)

    def mask(self, i: int) -> Tensor:
        """Return a mask ``(h, w)`` uint8, without a copy."""
        height, width = self.sizes[i].tolist()
        start = int(self.starts[i])
        return self.labels[start : start + height * width].view(height, width)


AnySplit = Split | MaskedSplit | PictureSplit | FileSplit | ClipSplit


@dataclass(frozen=True)
class Arrays:
    """A prepared data set.

    Attributes:
        splits: by name.
        class_names: in the order of the labels.
        superclasses: index of each class's superclass; ``None`` if the data set has none.
        superclass_names: in the order of those indices.
        mean: of each channel of the training images, in units of 1; empty for clips.
        std: standard deviation of each channel, likewise.
        digest: of all pixels, or samples of clips, and labels; it does not depend on the folder.
        folder: folder of the files.
        stamps: size, time and inode of each file when it was opened.
        sample_rate: Hz of clips; ``None`` for images.
        unreadable: by split, positions of files that were left out in the list of all files.
    """

    splits: Mapping[str, AnySplit]
    class_names: tuple[str, ...]
    superclasses: tuple[int, ...] | None
    superclass_names: tuple[str, ...] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    folder: Path
    stamps: dict[str, Stamp]
    sample_rate: int | None = None
    unreadable: Mapping[str, list[int]] = field(default_factory=dict)

    def check_unchanged(self) -> None:
        """Refuse files that changed after they were opened; their content is not read.

        Raises:
            RunError: a file was deleted, or has another size, time or inode.
        """
        for name, stamp in self.stamps.items():
            path = self.folder / name
            advice = "a resumed run prepares them again"
            try:
                now = stamp_of(path)
            except OSError as error:
                raise RunError(f"prepared data {path}: deleted during the run ({error.strerror}); {advice}") from error
            if now != stamp:
                raise RunError(f"prepared data {path}: changed during the run; {advice}")


def stamp_of(path: Path) -> Stamp:
    """Return size, modification time and inode of a file."""
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns, facts.st_ino


def files_of(splits: Iterable[str]) -> list[str]:
    """Return the names of a prepared data set's files."""
    return [FACTS, *(f"{split}_{part}.npy" for split in splits for part in Split._fields)]
