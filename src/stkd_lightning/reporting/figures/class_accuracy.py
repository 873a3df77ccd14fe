"""Accuracy of each class, of the teacher and the students of each method."""

from collections.abc import Sequence

import numpy as np

from stkd_lightning.reporting.class_counts import ClassCounts
from stkd_lightning.reporting.class_predictions import ClassPredictions
from stkd_lightning.reporting.diagnostics import Diagnostics
from stkd_lightning.reporting.figures.class_scores import MOST, ClassScore, Line, draw_class_scores
from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.grouping import Setting

ACCURACY = ClassScore(
    "", "class_accuracy", "Accuracy of each class", "Share of the images of each class that are right", "accuracy",
    "images",
)  # fmt: skip


def class_accuracy(settings: Sequence[Setting]) -> Picture | None:
    """Draw the accuracy of each class as points, one row for each class.

    Args:
        settings: settings of one pair of networks.

    Returns:
        The figure; ``None`` without diagnostics that hold the classes of images.
    """
    measured = classified(settings)
    if not measured:
        return None
    names = settings[0].runs[0].summary.data.class_names
    images = np.concatenate([p.labels for _, seeds in measured for p in seeds[:1]][:1])
    lines = accuracy_lines([(s.label, seeds) for s, seeds in measured], len(names))
    known = len(np.unique(images))
    caption = (
        f"{ACCURACY.words}, of {len(images):,} {split_of(settings)} images, {len(images) / known:.0f} of a class on "
        "average; mean over the seeds. The share of a class with few images says little."
        + f" Shown are the {MOST} classes of the lowest accuracy of {known}." * (known > MOST)
        + f" {len(names) - known} classes have no image." * (known < len(names))
    )
    figure = draw_class_scores(lines, names, split_of(settings), ACCURACY)
    return Picture(ACCURACY.name, ACCURACY.title, caption, figure)


def classified(settings: Sequence[Setting]) -> list[tuple[Setting, list[Diagnostics]]]:
    """Return the settings with the diagnostics of their seeds that hold the classes of images."""
    found = [(s, [d for d in s.diagnostics_of(Diagnostics) if len(d.labels)]) for s in settings]
    return [(setting, seeds) for setting, seeds in found if seeds]


def first_classified(setting: Setting) -> tuple[int, Diagnostics] | None:
    """Return the first seed of a setting whose diagnostics hold the classes of images, and these diagnostics."""
    for run in setting.runs:
        diagnostics = run.diagnostics_of(Diagnostics)
        if diagnostics and len(diagnostics.labels):
            return run.seed, diagnostics
    return None


def split_of(settings: Sequence[Setting]) -> str:
    """Return the name of the split of the images in the diagnostics."""
    return "validation" if settings[0].runs[0].summary.student.validation else "test"


def accuracy_lines(students: Sequence[tuple[str, Sequence[ClassPredictions]]], num_classes: int) -> list[Line]:
    """Return the accuracy of each class in percent, of the first teacher and of students, mean over their seeds.

    Args:
        students: label of each student, with the predictions of its seeds.
        num_classes: K.
    """
    taught = [p for _, seeds in students for p in seeds if len(p.teacher_first)][:1]
    teacher = [("teacher", _percent(p.labels, p.teacher_first, num_classes)) for p in taught]
    means = [
        (label, np.mean([_percent(p.labels, p.student_first, num_classes) for p in seeds], axis=0))
        for label, seeds in students
    ]
    return teacher + means


def _percent(labels: np.ndarray, first: np.ndarray, num_classes: int) -> np.ndarray:
    return 100 * ClassCounts.of(labels, first, num_classes).accuracy
