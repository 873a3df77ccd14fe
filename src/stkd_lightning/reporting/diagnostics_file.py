"""``diagnostics.npz`` of a run: measurements of one kind as arrays, which the figures draw."""

import io
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from stkd_lightning.utilities.errors import InputError, reason
from stkd_lightning.utilities.files import write_bytes
from stkd_lightning.utilities.untrusted import MIB, read_bytes

Array = NDArray[Any]
D = TypeVar("D", bound="DiagnosticsFile")

FILE = "diagnostics.npz"  # in a run's folder
LIMIT = 256 * MIB  # bytes of the arrays
SIDE = 4096  # largest side of a picture, in pixels
NAMES = "_files"  # end of the names of arrays that hold names of files
LARGEST, EPSILON = 1e12, 1e-3  # largest figure; rounding errors of a sum of shares


@dataclass(frozen=True)
class DiagnosticsFile(ABC):
    """Measurements of a student and its teacher; a subclass holds those of one kind.

    Attributes:
        images: number of images.
        available: number of images in the sample; larger than ``images`` if the time was too short for all.
        kind: name of the kind in the file; a file without a kind, of an older version, is of ``classification``.
    """

    images: Array
    available: Array

    kind: ClassVar[str]

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """The number of classes."""

    @property
    @abstractmethod
    def has_teacher(self) -> bool:
        """True if the student was compared with a teacher."""

    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes that the arrays must have to fit each other, by name."""

    @abstractmethod
    def check(self) -> None:
        """Refuse values that cannot be drawn, beyond those that every kind refuses.

        Raises:
            ValueError: names the array.
        """

    @property
    def is_whole(self) -> bool:
        """True if all images of the sample were measured."""
        return bool(self.images >= self.available)

    def save(self, path: Path) -> None:
        """Write an ``.npz`` file atomically."""
        content = io.BytesIO()
        np.savez_compressed(content, **vars(self), kind=np.asarray(self.kind))
        write_bytes(path, content.getvalue())

    @classmethod
    def read(cls: type[D], path: Path) -> D:
        """Read a file that ``save`` wrote; no code in it is executed.

        Raises:
            InputError: the file is damaged, or has another format or kind.
        """
        try:
            arrays = _arrays(path)
            kind = str(arrays.pop("kind", "classification"))
            if kind != cls.kind:
                raise ValueError(f"it holds measurements of {kind[:50]}, not of {cls.kind}")
            arrays.setdefault("available", arrays["images"])  # older files have all images of their sample
            diagnostics = cls(**{field.name: arrays[field.name] for field in fields(cls) if field.name in arrays})
            _check(diagnostics)
        except Exception as error:  # numpy and zlib raise many types for a damaged file
            raise InputError(f"diagnostics {path}: cannot be read ({reason(error)}); delete the file") from error
        return diagnostics


def _arrays(path: Path) -> dict[str, Array]:
    """Read the arrays of a file by name."""
    file = io.BytesIO(read_bytes(path, LIMIT))
    with zipfile.ZipFile(file) as archive:
        if sum(member.file_size for member in archive.infolist()) > LIMIT:
            raise ValueError(f"its arrays have more than {LIMIT // MIB} MiB")
    with np.load(file, allow_pickle=False) as content:
        return dict(content)


def _check(diagnostics: DiagnosticsFile) -> None:
    """Refuse arrays that do not fit each other, and values that cannot be drawn.

    Raises:
        ValueError: names the array.
    """
    arrays: Mapping[str, Array] = vars(diagnostics)
    numbers = {name: array for name, array in arrays.items() if not name.endswith(NAMES)}
    for name, array in numbers.items():
        if array.dtype.kind not in "iuf":
            raise ValueError(f"{name} must hold numbers")
    for name, shape in {"images": (), "available": (), **diagnostics.shapes()}.items():
        if arrays[name].shape != shape:
            raise ValueError(f"{name} has shape {arrays[name].shape}, not {shape}")
    for name, array in numbers.items():
        check_range(name, array, -LARGEST, LARGEST)
    diagnostics.check()


def check_range(name: str, array: Array, low: float, high: float) -> None:
    """Refuse values outside of a range, and values that are no numbers.

    Raises:
        ValueError: names the array.
    """
    if array.size and not (low <= array.min() and array.max() <= high + EPSILON):
        raise ValueError(f"{name} must hold numbers in [{low:g}, {high:g}]")
