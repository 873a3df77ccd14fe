"""Splits of images of unequal sides: prepared in a row, or as files that are decoded when they are needed."""

import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import features
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resized_crop

from stkd_lightning.data.decode import Box, UnreadableImageError, central_box, decode, decode_part

# The decoders of streamed images.
DECODERS = [PIL.__version__, features.version("libjpeg_turbo") or features.version("jpg")]
BICUBIC = InterpolationMode.BICUBIC


class View(NamedTuple):
    """How an evaluation sees images: resized to cover ``side``, then cropped to ``size`` at the centre.

    Attributes:
        size: height and width in pixels.
        side: likewise, not smaller.
    """

    size: tuple[int, int]
    side: tuple[int, int]


def identity(view: View, *, streamed: bool) -> bytes:
    """Return what identifies the images of a data set beside what is stored, for its digest."""
    return repr((view, DECODERS if streamed else None)).encode()


class RawPictures(NamedTuple):
    """A split of images of unequal sides as it is read, before it is written to the cache.

    Attributes:
        labels: one class index for each image, or tags ``(N, C)``.
        pictures: images ``(3, h, w)`` uint8, in the order of the labels.
        view: of an evaluation.
        unreadable: errors by position in the labels; the images leave these out. It is filled while they are read.
    """

    labels: list[int] | NDArray[np.int64]
    pictures: Iterable[NDArray[np.uint8]]
    view: View
    unreadable: Mapping[int, UnreadableImageError] = MappingProxyType({})


class RawFiles(NamedTuple):
    """A split of image files that are not prepared.

    Attributes:
        labels: one class index for each file, or tags ``(N, C)``.
        paths: of the files.
        root: folder of the data; the names of files in it are stored without it, those of others as they are.
        view: of an evaluation.
        unreadable: errors by position in the labels. It is filled while the heads of the files are read.
    """

    labels: list[int] | NDArray[np.int64]
    paths: list[Path]
    root: Path
    view: View
    unreadable: dict[int, UnreadableImageError]


class PictureSplit(NamedTuple):
    """Images of unequal sides on one device, in a row; on the CPU they are memory-mapped.

    Attributes:
        images: ``(3 * P,)`` uint8: the bytes of all images ``(3, h, w)``.
        labels: ``(N,)`` int64, or tags ``(N, C)``.
        sizes: ``(N, 2)`` int64 on the CPU: height and width.
        starts: ``(N,)`` int64 on the CPU: position of each image's first byte.
        view: of an evaluation.
    """

    images: Tensor
    labels: Tensor
    sizes: Tensor
    starts: Tensor
    view: View

    @classmethod
    def of(cls, images: Tensor, labels: Tensor, sizes: Tensor, view: View) -> "PictureSplit":
        """Hold images of these sizes."""
        lengths = 3 * sizes.prod(1)
        return cls(images, labels, sizes, lengths.cumsum(0) - lengths, view)

    def to(self, device: torch.device | str) -> "PictureSplit":
        """Return the split on a device; the CPU reads no pixel before it is used."""
        return self._replace(images=self.images.to(device), labels=self.labels.to(device))

    @property
    def inputs(self) -> Tensor:
        """The bytes of all images."""
        return self.images

    @property
    def samples(self) -> int:
        """Number of images."""
        return len(self.labels)

    def sides(self, i: int) -> tuple[int, int]:
        """Return height and width of an image."""
        height, width = self.sizes[i].tolist()
        return height, width

    def image(self, i: int) -> Tensor:
        """Return an image ``(3, h, w)`` uint8, without a copy."""
        start, (height, width) = int(self.starts[i]), self.sides(i)
        return self.images[start : start + 3 * height * width].view(3, height, width)

    def crop(self, i: int, box: Box, size: tuple[int, int]) -> Tensor:
        """Return a part of an image, resized: see ``Split.crop``."""
        return resized_crop(self.image(i), *whole_box(box), list(size), BICUBIC, antialias=True)

    def pictures(self, indices: Tensor) -> Tensor:
        """Return images as an evaluation sees them ``(B, 3, *view.size)`` uint8."""
        size, side = self.view
        return torch.stack([self.crop(i, central_box(self.sides(i), size, side), size) for i in indices.tolist()])


class FileSplit(NamedTuple):
    """Image files that are decoded when they are needed, on the CPU.

    Attributes:
        files: ``(N,)`` records, see ``file_type``; memory-mapped.
        labels: ``(N,)`` int64, or tags ``(N, C)``.
        root: folder of the paths.
        view: of an evaluation.
    """

    files: NDArray[Any]
    labels: Tensor
    root: Path
    view: View

    def to(self, device: torch.device | str) -> "FileSplit":
        """Return the split; files are decoded on the CPU."""
        return self

    @property
    def inputs(self) -> Tensor:
        """The bytes of the records; the pixels are in the files."""
        return mapped(self.files.view(np.uint8))

    @property
    def samples(self) -> int:
        """Number of images."""
        return len(self.labels)

    def name(self, i: int) -> str:
        """Return the name of an image file: its path below the root, or the absolute path of a file elsewhere."""
        return os.fsdecode(bytes(self.files[i]["path"]))

    def path(self, i: int) -> Path:
        """Return the path of an image file."""
        return self.root / self.name(i)

    def sides(self, i: int) -> tuple[int, int]:
        """Return height and width of an image, as they were when the files were listed."""
        return int(self.files[i]["height"]), int(self.files[i]["width"])

    def crop(self, i: int, box: Box, size: tuple[int, int]) -> Tensor:
        """Return a part of an image, resized: see ``Split.crop``.

        Raises:
            UnreadableImageError: the file is damaged, or has other sides now.
        """
        return torch.from_numpy(decode_part(self.path(i), self.sides(i), box, size))

    def pictures(self, indices: Tensor) -> Tensor:
        """Return images as an evaluation and a prediction see them ``(B, 3, *view.size)`` uint8.

        Raises:
            UnreadableImageError: a damaged file.
        """
        size, side = self.view
        return torch.from_numpy(np.stack([decode(self.path(i), size, side) for i in indices.tolist()]))


def file_type(longest: int) -> np.dtype[Any]:
    """Return the type of a record of an image file: path, height and width, and a digest that recognizes the file.

    Args:
        longest: bytes of the longest path.
    """
    return np.dtype([("path", f"S{max(longest, 1)}"), ("height", "<i4"), ("width", "<i4"), ("digest", "V16")])


def mapped(array: NDArray[Any]) -> Tensor:
    """Return a tensor on the memory of a mapped file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")  # nothing writes to a split
        return torch.from_numpy(array)


def whole_box(box: Box) -> tuple[int, int, int, int]:
    """Return a box in whole pixels, of one at least."""
    top, left, height, width = map(round, box)
    return top, left, max(1, height), max(1, width)
