"""The labels that the values of mask files stand for."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stkd_lightning.tasks.segmentation import IGNORED
from stkd_lightning.utilities.errors import InputError

SHOWN = 5  # values in a message


@dataclass(frozen=True)
class MaskValues:
    """The label of each value that a mask may have.

    Attributes:
        labels: label by value: 0 to K-1, or ``IGNORED``.
        advice: what to do about another value, for messages; ``{value}`` stands for the first of them.
    """

    labels: Mapping[int, int]
    advice: str

    @cached_property
    def _table(self) -> NDArray[np.uint8]:
        table = np.full(256, IGNORED, dtype=np.uint8)
        table[list(self.labels)] = list(self.labels.values())
        return table

    def to_labels(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the labels of a mask, in its shape.

        Raises:
            InputError: a value without label, or no pixel with a class; the message is the end of a line that
                begins with the file.
        """
        counts = np.bincount(mask.ravel(), minlength=256)
        present = [int(value) for value in np.flatnonzero(counts)]
        if foreign := [value for value in present if value not in self.labels]:
            more = f" and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
            several = "values" if len(foreign) > 1 else "value"
            raise InputError(
                f"{several} {', '.join(map(str, foreign[:SHOWN]))}{more} in {counts[foreign].sum():,} of {mask.size:,} "
                f"pixels, but {self.describe()}; {self.advice.format(value=foreign[0])}"
            )
        if all(self.labels[value] == IGNORED for value in present):
            raise InputError("all its pixels are ignored; label it, or delete this mask and its image")
        return self._table[mask]

    def describe(self) -> str:
        """Return the values of classes and the ignored values in words."""
        classes = _ranges([value for value, label in self.labels.items() if label != IGNORED])
        ignored = _ranges([value for value, label in self.labels.items() if label == IGNORED])
        return f"classes are {classes}" + (f" and ignored is {ignored}" if ignored else "")


def _ranges(values: list[int]) -> str:
    """Return numbers in words, such as ``0 to 10, 255``."""
    words, start = [], 0
    values = sorted(values)
    for end, value in enumerate(values):
        if end + 1 == len(values) or values[end + 1] != value + 1:
            first = values[start]
            words.append(f"{first}" if first == value else f"{first} to {value}")
            start = end + 1
    return ", ".join(words)
