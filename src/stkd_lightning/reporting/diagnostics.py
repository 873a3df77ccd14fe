"""``diagnostics.npz``: measurements of a student beyond its accuracy."""

import io
import zipfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stkd_lightning.tasks.calibration import BINS
from stkd_lightning.utilities.errors import InputError, reason
from stkd_lightning.utilities.files import write_bytes
from stkd_lightning.utilities.untrusted import MIB, read_bytes

Array = NDArray[Any]
FILE = "diagnostics.npz"  # in a run's folder
LIMIT = 256 * MIB  # bytes of the arrays
LARGEST, EPSILON = 1e12, 1e-3  # largest figure; rounding errors of a sum of shares
SIDE = 4096  # pixels of a side of an image in the gallery
WEIGHTS = np.linspace(0.5, 1.0, 6)  # of the first of two mixed samples; exchanging them covers weights below 0.5
GALLERY = 8  # virtual samples in the gallery
TEMPERATURE = 4.0  # of the compared distributions, independent of the method's own temperature


@dataclass(frozen=True)
class Diagnostics:
    """Measurements of a student and its teacher; without a teacher, the arrays that need one are empty.

    K classes, L mixing weights, P virtual samples, G virtual samples in the gallery; divergences are
    ``T**2 KL(teacher || student)`` in nats, T = 4.

    Attributes:
        images: number of images.
        available: number of images in the sample; larger than ``images`` if the time was too short for all.
        student_calibration: ``(3, 15)``; number of images, mean confidence and accuracy in each bin of confidence.
        teacher_calibration: the same for the teacher.
        student_similarity: ``(K, K)``; row k is the mean distribution at T = 4 over the images of class k.
        teacher_similarity: the same for the teacher.
        weights: ``(L,)``; weight of the first of two mixed samples, from 0.5 to 1.
        divergence: ``(L, P)``.
        incorrect: ``(L, P)``; part of the divergence among the classes of neither sample.
        agreement: ``(L,)``; share of virtual samples with the same top class from both networks.
        shown: ``(G, 3, 3, H, W)`` uint8; first, second and virtual image of the gallery.
        shown_labels: ``(G, 2)``.
        shown_weights: ``(G,)``; weight of the first image.
        student_shown: ``(G, K)``; distributions at T = 1.
        teacher_shown: the same for the teacher.
    """

    images: Array
    available: Array
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
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.student_similarity)

    @property
    def is_whole(self) -> bool:
        """True if all images of the sample were measured."""
        return bool(self.images >= self.available)

    @property
    def has_teacher(self) -> bool:
        """True if the student was compared with a teacher."""
        return bool(self.divergence.size)

    def save(self, path: Path) -> None:
        """Write an ``.npz`` file atomically."""
        content = io.BytesIO()
        np.savez_compressed(content, **asdict(self))
        write_bytes(path, content.getvalue())


def read_diagnostics(path: Path) -> Diagnostics:
    """Read a file that ``Diagnostics.save`` wrote; no code in it is executed.

    Raises:
        InputError: the file is damaged or has another format.
    """
    try:
        file = io.BytesIO(read_bytes(path, LIMIT))
        with zipfile.ZipFile(file) as archive:
            if sum(member.file_size for member in archive.infolist()) > LIMIT:
                raise ValueError(f"its arrays have more than {LIMIT // MIB} MiB")
        with np.load(file, allow_pickle=False) as content:
            old = {"available": content["images"]}  # older files have all images of their sample
            diagnostics = Diagnostics(**{f.name: content.get(f.name, old.get(f.name)) for f in fields(Diagnostics)})
        _check(diagnostics)
    except Exception as error:  # numpy and zlib raise many types for a damaged file
        raise InputError(f"diagnostics {path}: cannot be read ({reason(error)}); delete the file") from error
    return diagnostics


def _check(diagnostics: Diagnostics) -> None:
    """Refuse arrays that do not fit each other, and values that cannot be drawn.

    Raises:
        ValueError: names the array.
    """
    for name, array in vars(diagnostics).items():
        low, high = (0, 1) if name.endswith(("similarity", "_shown")) else (-LARGEST, LARGEST)
        numbers = array.dtype.kind in "iuf"
        if not numbers or (array.size and not (low <= array.min() and array.max() <= high + EPSILON)):
            raise ValueError(f"{name} must hold numbers in [{low:g}, {high:g}]")
    classes, weights = diagnostics.num_classes, len(diagnostics.weights)
    shown, has_pairs = len(diagnostics.shown), diagnostics.has_teacher
    has_teacher = bool(diagnostics.teacher_similarity.size)  # a single image makes no pair
    shapes = {
        "images": (),
        "available": (),
        "weights": WEIGHTS.shape if has_pairs else (0,),
        "student_calibration": (3, BINS),
        "student_similarity": (classes, classes),
        "teacher_similarity": (classes, classes) if has_teacher else (0,),
        "teacher_calibration": diagnostics.student_calibration.shape if has_teacher else (0,),
        "divergence": (weights, *diagnostics.divergence.shape[1:2]) if has_pairs else (0,),
        "incorrect": diagnostics.divergence.shape,
        "agreement": (weights,),
        "shown_labels": (shown, 2) if shown else (0,),
        "shown_weights": (shown,),
        "student_shown": (shown, classes) if shown else (0,),
        "teacher_shown": (shown, classes) if shown else (0,),
    }
    for name, shape in shapes.items():
        if getattr(diagnostics, name).shape != shape:
            raise ValueError(f"{name} has shape {getattr(diagnostics, name).shape}, not {shape}")
    labels = diagnostics.shown_labels
    pictures = diagnostics.shown
    if shown and (pictures.ndim != 5 or pictures.dtype != np.uint8 or labels.dtype.kind != "i"):
        raise ValueError("shown needs uint8 in 5 dimensions, and shown_labels needs integers")
    if shown > GALLERY or (shown and (pictures.shape[1:3] != (3, 3) or max(pictures.shape[3:]) > SIDE)):
        raise ValueError(f"shown has shape {pictures.shape}, not at most ({GALLERY}, 3, 3, {SIDE}, {SIDE})")
    if shown and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(f"shown_labels must be in [0, {classes})")
