"""Measurements of a segmentation network beyond its score."""

from dataclasses import dataclass

import numpy as np

from stkd_lightning.reporting.diagnostics_file import SIDE, Array, DiagnosticsFile, check_range
from stkd_lightning.tasks.segmentation_metrics import IGNORED

GALLERY = 6  # images in the gallery: two of the lowest, of medium and of the highest quality


@dataclass(frozen=True)
class SegmentationDiagnostics(DiagnosticsFile):
    """Measurements of a student and its teacher; without a teacher, the arrays that need one are empty.

    K classes, N images, G images in the gallery of at most S pixels a side; smaller ones are padded.

    Attributes:
        student_quality: ``(N,)``; mean IoU over the classes in the truth of each image, in [0, 1].
        teacher_quality: the same for the teacher.
        student_similarity: ``(K, K)``; category similarity (``losses.dsd``), mean over the images.
        teacher_similarity: the same for the teacher.
        shown: ``(G, 3, S, S)`` uint8; images of the gallery, by ascending quality.
        shown_sizes: ``(G, 2)``; height and width without the padding.
        shown_quality: ``(G,)``; quality of the student's masks.
        shown_truth: ``(G, S, S)`` uint8; classes, 255 for pixels without class.
        student_shown: ``(G, S, S)`` uint8; the student's classes.
        teacher_shown: the same for the teacher.
    """

    kind = "segmentation"

    student_quality: Array
    teacher_quality: Array
    student_similarity: Array
    teacher_similarity: Array
    shown: Array
    shown_sizes: Array
    shown_quality: Array
    shown_truth: Array
    student_shown: Array
    teacher_shown: Array

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.student_similarity)

    @property
    def has_teacher(self) -> bool:
        """True if the student was compared with a teacher."""
        return bool(self.teacher_similarity.size)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes that the arrays must have to fit each other, by name."""
        shown, side, classes = len(self.shown), self.shown.shape[-1], self.num_classes
        return {
            "student_quality": (int(self.images),),
            "teacher_quality": (int(self.images) if self.has_teacher else 0,),
            "student_similarity": (classes, classes),
            "teacher_similarity": (classes, classes) if self.has_teacher else (0,),
            "shown": (shown, 3, side, side),
            "shown_sizes": (shown, 2),
            "shown_quality": (shown,),
            "shown_truth": (shown, side, side),
            "student_shown": (shown, side, side),
            "teacher_shown": (shown, side, side) if self.has_teacher else (0,),
        }

    def check(self) -> None:
        """Refuse shares that are none, and a gallery that cannot be drawn.

        Raises:
            ValueError: names the array.
        """
        for name, array in vars(self).items():
            if name.endswith(("similarity", "quality")):
                check_range(name, array, 0, 1)
        if len(self.shown) > GALLERY or self.shown.shape[-1] > SIDE:
            raise ValueError(f"shown has shape {self.shown.shape}, not at most ({GALLERY}, 3, {SIDE}, {SIDE})")
        for name in ("shown", "shown_truth", "student_shown", "teacher_shown"):
            if getattr(self, name).size and getattr(self, name).dtype != np.uint8:
                raise ValueError(f"{name} needs uint8")
        for name in ("shown_truth", "student_shown", "teacher_shown"):
            classes = getattr(self, name)
            if (classes[classes != IGNORED] >= self.num_classes).any():
                raise ValueError(f"{name} must hold classes below {self.num_classes}, or {IGNORED}")
        sizes, side = self.shown_sizes, self.shown.shape[-1]
        if sizes.dtype.kind != "i" or not ((sizes > 0) & (sizes <= side)).all():
            raise ValueError(f"shown_sizes must be whole numbers in [1, {side}]")
