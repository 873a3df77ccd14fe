"""Counts of right and wrong images: of each class, of pairs of classes, and of student and teacher together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stkd_lightning.reporting.diagnostics_file import Array


@dataclass(frozen=True)
class ClassCounts:
    """Counts of each class, ``(K,)`` int64.

    Attributes:
        images: images of the class.
        predicted: images that the network takes for the class.
        correct: images of which both are true.
    """

    images: Array
    predicted: Array
    correct: Array

    @classmethod
    def of(cls, labels: Array, first: Array, num_classes: int) -> "ClassCounts":
        """Count images with true and first classes ``(N,)``."""
        parts = (labels, first, labels[labels == first])
        return cls(*(np.bincount(part, minlength=num_classes) for part in parts))

    @property
    def accuracy(self) -> Array:
        """Share of the images of each class that are right, its recall ``(K,)``; NaN for a class without images."""
        return _share(self.correct, self.images)

    @property
    def precision(self) -> Array:
        """Share of the images taken for each class that are of it ``(K,)``; NaN for a class that none is taken for."""
        return _share(self.correct, self.predicted)

    def lowest(self, most: int) -> list[int]:
        """Return the classes of the lowest accuracy, lowest first; of equal ones those of more images first."""
        order = np.lexsort((-self.images, self.accuracy))
        return [int(c) for c in order if self.images[c]][:most]


class Confused(NamedTuple):
    """A number of images of a class that a network takes for another class."""

    label: int
    first: int
    images: int


def confused_pairs(labels: Array, first: Array, num_classes: int) -> list[Confused]:
    """Return the pairs of classes that are confused, those of the most images first."""
    wrong = labels != first
    cells, images = np.unique(labels[wrong].astype(np.int64) * num_classes + first[wrong], return_counts=True)
    order = np.argsort(-images, kind="stable")
    return [Confused(*divmod(int(cells[i]), num_classes), int(images[i])) for i in order]


def confusion_matrix(labels: Array, first: Array, num_classes: int) -> Array:
    """Return the number of images by true class, a row each, and first class, ``(K, K)`` int64."""
    cells = labels.astype(np.int64) * num_classes + first
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


class Outcomes(NamedTuple):
    """The number of images that student and teacher have right."""

    both: int
    only_teacher: int
    only_student: int
    neither: int

    @classmethod
    def of(cls, labels: Array, student: Array, teacher: Array) -> "Outcomes":
        """Count images with true and first classes ``(N,)``."""
        right, taught = student == labels, teacher == labels
        parts = (right & taught, ~right & taught, right & ~taught, ~right & ~taught)
        return cls(*(int(part.sum()) for part in parts))

    @property
    def text(self) -> str:
        """The numbers in words."""
        words = ("both right", "only the teacher right", "only the student right", "both wrong")
        return ", ".join(f"{word} {number:,}" for word, number in zip(words, self, strict=True))


def summed(outcomes: Sequence[Outcomes]) -> Outcomes:
    """Return the sums over several students."""
    return Outcomes(*(sum(numbers) for numbers in zip(*outcomes, strict=True)))


def _share(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
