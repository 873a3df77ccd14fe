"""``diagnostics.npz``: what was seen of a student beside its accuracy."""

import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stkd_lightning.utilities.errors import InputError, reason
from stkd_lightning.utilities.files import write_bytes

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
        content = io.BytesIO()
        np.savez_compressed(content, **asdict(self))
        write_bytes(path, content.getvalue())


def read_diagnostics(path: Path) -> Diagnostics:
    """Read what ``Diagnostics.save`` wrote; nothing in the file is executed.

    Raises:
        InputError: another file, or a damaged one.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            found = Diagnostics(**{field.name: content[field.name] for field in fields(Diagnostics)})
        _check(found)
    except Exception as error:  # numpy and zlib raise many types for a damaged file
        raise InputError(f"diagnostics {path}: cannot be read ({reason(error)}); delete the file") from error
    return found


def _check(found: Diagnostics) -> None:
    """Refuse arrays that do not fit each other.

    Raises:
        ValueError: says which.
    """
    classes, weights, shown = len(found.student_similarity), len(found.weights), len(found.shown)
    there = found.has_teacher
    shapes = {
        "student_calibration": (3, *found.student_calibration.shape[1:2]),
        "student_similarity": (classes, classes),
        "teacher_similarity": (classes, classes) if there else (0,),
        "teacher_calibration": found.student_calibration.shape if there else (0,),
        "divergence": (weights, *found.divergence.shape[1:2]) if there else (0,),
        "incorrect": found.divergence.shape,
        "agreement": (weights,),
        "shown_labels": (shown, 2) if shown else (0,),
        "shown_weights": (shown,),
        "student_shown": (shown, classes) if shown else (0,),
        "teacher_shown": (shown, classes) if shown else (0,),
    }
    for name, shape in shapes.items():
        if getattr(found, name).shape != shape:
            raise ValueError(f"{name} is {getattr(found, name).shape}, not {shape}")
    labels = found.shown_labels
    if shown and (found.shown.ndim != 5 or labels.dtype.kind != "i" or labels.min() < 0 or labels.max() >= classes):
        raise ValueError("what is shown is not images of these classes")
