"""``diagnostics.npz``: what was seen of a student beside its accuracy."""

import zipfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stkd_lightning.errors import InputError

Array = NDArray[Any]
FILE = "diagnostics.npz"  # in a run's folder
TEMPERATURE = 4.0  # of distributions that are compared, whatever the method was trained with


@dataclass(frozen=True)
class Diagnostics:
    """Figures of a student, and of its teacher where there is one; else those arrays are empty.

    K classes, L weights, G shown virtual samples; divergences are ``T**2 KL(teacher || student)`` in nats, T = 4.

    Attributes:
        images: number of images looked at.
        student_calibration: ``(3, 15)``: images, mean confidence and accuracy in each bin of confidence.
        teacher_calibration: likewise.
        student_similarity: ``(K, K)``: mean distribution at T = 4 over the images of each class, in rows.
        teacher_similarity: likewise.
        weights: ``(L,)`` of the first of two mixed samples, from 0.5 to 1.
        divergence: ``(L, P)`` of each of P virtual samples.
        incorrect: ``(L, P)``, the part of it among the classes that neither sample has.
        agreement: ``(L,)`` share of virtual samples that both networks give the same first class.
        shown: ``(G, 3, 3, H, W)`` uint8: first, second and virtual image.
        shown_labels: ``(G, 2)``.
        shown_weights: ``(G,)`` of the first.
        student_shown: ``(G, K)`` distributions at T = 1.
        teacher_shown: likewise.
    """

    images: Array
    student_calibration: Array
    teacher_calibration: Array
    student_similarity: Array
    teacher_similarity: Array
    weights: Array
    divergence: Array
    incorrect: Array
    agreement: Array
    shown: Array
    shown_labels: Array
    shown_weights: Array
    student_shown: Array
    teacher_shown: Array

    @property
    def has_teacher(self) -> bool:
        """Whether there was a teacher to compare with."""
        return bool(self.divergence.size)

    def save(self, path: Path) -> None:
        """Write an ``.npz`` file that is whole or not there."""
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("wb") as file:
            np.savez_compressed(file, **asdict(self))
        partial.replace(path)


def read_diagnostics(path: Path) -> Diagnostics:
    """Read what ``Diagnostics.save`` wrote; nothing in the file is executed.

    Raises:
        InputError: another file, or a damaged one.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            return Diagnostics(**{field.name: content[field.name] for field in fields(Diagnostics)})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"diagnostics {path}: cannot be read ({error}); delete the file") from error
