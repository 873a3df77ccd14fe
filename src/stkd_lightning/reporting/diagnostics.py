"""Measurements of a classifier beyond its accuracy."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stkd_lightning.reporting.class_predictions import ClassPredictions
from stkd_lightning.reporting.diagnostics_file import FILE, LIMIT, SIDE, Array, DiagnosticsFile, check_range
from stkd_lightning.tasks.calibration import BINS

__all__ = ["FILE", "GALLERY", "LIMIT", "SIDE", "TEMPERATURE", "WEIGHTS", "Array", "Diagnostics", "read_diagnostics"]

WEIGHTS = np.linspace(0.5, 1.0, 6)  # of the first of two mixed samples; exchanging them covers weights below 0.5
GALLERY = 8  # virtual samples in the gallery
TEMPERATURE = 4.0  # of the compared distributions, independent of the method's own temperature


@dataclass(frozen=True)
class Diagnostics(ClassPredictions, DiagnosticsFile):
    """Measurements of a student and its teacher; without a teacher, the arrays that need one are empty.

    K classes, L mixing weights, P virtual samples, G virtual samples in the gallery; divergences are
    ``T**2 KL(teacher || student)`` in nats, T = 4. Of the first class of each image see ``ClassPredictions``.

    Attributes:
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
        teacher_entropy: ``(L,)``; see ``teacher_on_mixtures`` for this and the next two, which are means over virtual
            samples. All three are empty in files of older versions.
        teacher_top1: ``(L,)``.
        contradiction: ``(L - 1,)``, as it is not defined at the weight 0.5; empty if no two mixed labels differ.
    """

    kind = "classification"

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
    teacher_entropy: Array = field(default_factory=lambda: np.zeros(0))
    teacher_top1: Array = field(default_factory=lambda: np.zeros(0))
    contradiction: Array = field(default_factory=lambda: np.zeros(0))

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.student_similarity)

    @property
    def has_teacher(self) -> bool:
        """True if the student was compared with a teacher."""
        return bool(self.divergence.size)

    @property
    def is_whole(self) -> bool:
        """True if all images of the sample were measured, with their first classes, which older files lack."""
        return super().is_whole and len(self.labels) == int(self.images)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes that the arrays must have to fit each other, by name."""
        classes, weights = self.num_classes, len(self.weights)
        shown, has_pairs = len(self.shown), self.has_teacher
        has_teacher = bool(self.teacher_similarity.size)  # a single image makes no pair
        return {
            "weights": WEIGHTS.shape if has_pairs else (0,),
            "student_calibration": (3, BINS),
            "student_similarity": (classes, classes),
            "teacher_similarity": (classes, classes) if has_teacher else (0,),
            "teacher_calibration": self.student_calibration.shape if has_teacher else (0,),
            "divergence": (weights, *self.divergence.shape[1:2]) if has_pairs else (0,),
            "incorrect": self.divergence.shape,
            "agreement": (weights,),
            "shown_labels": (shown, 2) if shown else (0,),
            "shown_weights": (shown,),
            "student_shown": (shown, classes) if shown else (0,),
            "teacher_shown": (shown, classes) if shown else (0,),
            "teacher_entropy": (weights if self.teacher_entropy.size else 0,),
            "teacher_top1": self.teacher_entropy.shape,
            "contradiction": (weights - 1 if self.contradiction.size else 0,),
        }

    def check(self) -> None:
        """Refuse distributions that are none, and a gallery that cannot be drawn.

        Raises:
            ValueError: names the array.
        """
        for name, array in vars(self).items():
            if name.endswith(("similarity", "_shown", "top1", "contradiction")):
                check_range(name, array, 0, 1)
        classes, shown, labels, pictures = self.num_classes, len(self.shown), self.shown_labels, self.shown
        if shown and (pictures.ndim != 5 or pictures.dtype != np.uint8 or labels.dtype.kind != "i"):
            raise ValueError("shown needs uint8 in 5 dimensions, and shown_labels needs integers")
        if shown > GALLERY or (shown and (pictures.shape[1:3] != (3, 3) or max(pictures.shape[3:]) > SIDE)):
            raise ValueError(f"shown has shape {pictures.shape}, not at most ({GALLERY}, 3, 3, {SIDE}, {SIDE})")
        if shown and (labels.min() < 0 or labels.max() >= classes):
            raise ValueError(f"shown_labels must be in [0, {classes})")
        self.check_predictions(int(self.images), classes)


def read_diagnostics(path: Path) -> Diagnostics:
    """Read the diagnostics of a classifier; see ``DiagnosticsFile.read``."""
    return Diagnostics.read(path)
