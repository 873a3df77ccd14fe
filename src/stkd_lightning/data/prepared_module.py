"""Prepared data and what they tell: classes, normalization and sizes."""

import os
from abc import abstractmethod
from functools import cached_property
from pathlib import Path

import lightning as L

from stkd_lightning.data.arrays import FORMAT, Arrays, RawData
from stkd_lightning.data.picture_split import FileSplit, PictureSplit
from stkd_lightning.data.prepare import prepare
from stkd_lightning.utilities.choices import OnError
from stkd_lightning.utilities.image_size import Size, size_of
from stkd_lightning.utilities.paths import key_of


class PreparedDataModule(L.LightningDataModule):
    """Base of data modules whose official files are read once, and kept as memory-mapped arrays.

    Attributes:
        name: short name for folders in the cache.
        cache: folder of prepared data.
        on_error: what becomes of images that cannot be read; ``None``: they are refused, without an option.
    """

    name: str
    cache: Path
    on_error: OnError | None = None

    @abstractmethod
    def locate(self) -> Path:
        """Return the folder of the official files; download them if they are missing."""

    @abstractmethod
    def stamps(self, folder: Path) -> list[Path]:
        """Return the files and folders whose size or modification time changes with the data."""

    @abstractmethod
    def read(self, folder: Path) -> RawData:
        """Read the official files."""

    def read_resized(self, folder: Path) -> RawData:
        """Read the official files in the size in which they are prepared."""
        return self.read(folder)

    def options(self) -> dict[str, object]:
        """Return the options that change the prepared arrays."""
        return {}

    def evaluation_options(self) -> list[object]:
        """Return further options that change a network's score on the data."""
        return []

    @cached_property
    def arrays(self) -> Arrays:
        """The prepared data; the first access prepares them if they are not in the cache."""
        folder = self.locate()
        stats = [(os.path.relpath(p, folder), p.stat()) for p in self.stamps(folder)]  # a table may name any file
        stamp = [[p, s.st_size, s.st_mtime_ns] for p, s in stats]
        key = key_of([FORMAT, self.name, str(folder.resolve()), stamp, self.options()])
        return prepare(self.cache / f"{self.name}-{key}", lambda: self.read_resized(folder), on_error=self.on_error)

    def prepare_data(self) -> None:
        """Download and prepare missing data; Lightning calls this on one process of each machine."""
        self.arrays  # noqa: B018

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the labels."""
        return self.arrays.class_names

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.arrays.class_names)

    @property
    def superclasses(self) -> tuple[int, ...] | None:
        """Index of each class's superclass, in the order of the labels; ``None`` if the data set has none."""
        return self.arrays.superclasses

    @property
    def superclass_names(self) -> tuple[str, ...] | None:
        """Names of the superclasses, in the order of their indices."""
        return self.arrays.superclass_names

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel of the training images, in units of 1."""
        return self.arrays.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel of the training images, in units of 1."""
        return self.arrays.std

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of a training sample: ``(C, H, W)`` of an image."""
        train = self.arrays.splits["train"]
        if isinstance(train, PictureSplit | FileSplit):
            return 3, *train.view.size
        return tuple(train.inputs.shape[1:])

    @property
    def image_size(self) -> Size:
        """Side of square images in pixels; height and width of others."""
        height, width = self.input_shape[1:]
        return size_of(height, width)

    @property
    def evaluation_resize(self) -> tuple[int, int] | None:
        """Height and width that an image covers before its centre is cropped; ``None``: the image size."""
        return None
