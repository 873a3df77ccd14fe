"""Measurements of a tagging network beyond its scores."""

from dataclasses import dataclass

import numpy as np

from stkd_lightning.reporting.diagnostics_file import SIDE, Array, DiagnosticsFile, check_range

GALLERY = 6  # clips in the gallery: two of the largest, of medium and of the smallest error
RECALLS = np.linspace(0, 1, 101)
FRAMES = 64  # of the frame scores and similarities that are drawn


@dataclass(frozen=True)
class TaggingDiagnostics(DiagnosticsFile):
    """Measurements of a student and its teacher; without a teacher, the arrays that need one are empty.

    C tags, G samples in the gallery, S columns of a spectrogram of M bands, F frames. Of networks without frames, as
    those of images, the arrays of frames are empty, and of images those of spectrograms, too.

    Attributes:
        student_curve: ``(101,)``; largest precision of all tags together from each recall on.
        teacher_curve: the same for the teacher.
        student_similarity: ``(F, F)``; inner products of the frames of the first sample, rows L2-normalized (IUSP).
        teacher_similarity: the same for the teacher.
        shown: ``(G, M, S)`` uint8; log-mel spectrograms of the gallery, by descending error.
        shown_seconds: ``(G,)``.
        shown_labels: ``(G, C)``; 1, 0, or 255 where nobody knows.
        student_shown: ``(G, C)``; probabilities.
        teacher_shown: the same for the teacher.
        student_frames: ``(G, C, F)``; the student's probabilities of each frame.
    """

    kind = "tagging"

    student_curve: Array
    teacher_curve: Array
    student_similarity: Array
    teacher_similarity: Array
    shown: Array
    shown_seconds: Array
    shown_labels: Array
    student_shown: Array
    teacher_shown: Array
    student_frames: Array

    @property
    def num_classes(self) -> int:
        """The number of tags."""
        return self.shown_labels.shape[1]

    @property
    def has_teacher(self) -> bool:
        """True if the student was compared with a teacher."""
        return bool(self.teacher_curve.size)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes that the arrays must have to fit each other, by name."""
        shown, classes, pictures = len(self.shown_labels), self.num_classes, len(self.shown)
        frames = len(self.student_similarity)
        return {
            "student_curve": RECALLS.shape,
            "teacher_curve": RECALLS.shape if self.has_teacher else (0,),
            "student_similarity": (frames, frames),
            "teacher_similarity": (len(self.teacher_similarity),) * 2,
            "shown": (pictures, *self.shown.shape[1:3]),
            "shown_seconds": (pictures,),
            "student_shown": (shown, classes),
            "teacher_shown": (shown, classes) if self.has_teacher else (0, 0),
            "student_frames": (
                len(self.student_frames),
                *((classes, self.student_frames.shape[2]) if frames else (0, 0)),
            ),
        }

    def check(self) -> None:
        """Refuse shares that are none, and a gallery that cannot be drawn.

        Raises:
            ValueError: names the array.
        """
        for name, array in vars(self).items():
            if name.endswith(("curve", "student_shown", "teacher_shown", "frames")):
                check_range(name, array, 0, 1)
        if len(self.shown_labels) > GALLERY or len(self.shown) not in (0, len(self.shown_labels)):
            raise ValueError(f"shown holds {len(self.shown)} spectrograms for {len(self.shown_labels)} samples")
        if self.shown.dtype != np.uint8 or max(self.shown.shape[1:]) > SIDE:
            raise ValueError(f"shown is {self.shown.dtype} {self.shown.shape}, not uint8 of at most {SIDE} a side")
        if max(len(self.student_similarity), len(self.teacher_similarity), *self.student_frames.shape[2:]) > FRAMES:
            raise ValueError(f"there are at most {FRAMES} frames")
