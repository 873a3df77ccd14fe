"""Reliability diagrams: accuracy by confidence (arXiv:1706.04599)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from stkd_lightning.reporting.diagnostics import Diagnostics
from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.figures.style import INK, legend, new_figure, styles
from stkd_lightning.reporting.grouping import Setting

FEW = 5  # bins with fewer images are left out


def calibration(settings: Sequence[Setting]) -> Picture | None:
    """Draw accuracy over confidence for each setting; the seeds of a setting share one curve.

    Args:
        settings: settings of one pair of networks.

    Returns:
        The figure; ``None`` without diagnostics.
    """
    measured = [(s, seeds) for s in settings if (seeds := s.diagnostics_of(Diagnostics))]
    if not measured:
        return None
    caption = (
        "Below the line a network is overconfident. The images were not used to train the students; a teacher loaded "
        f"from a checkpoint may have seen them. Images are binned by confidence; bins of fewer than {FEW} are left out."
    )
    students = [(s.label, [d.student_calibration for d in seeds]) for s, seeds in measured]
    teachers = [d.teacher_calibration for _, seeds in measured for d in seeds if d.has_teacher]
    return Picture("calibration", "Calibration", caption, draw_calibration(students, teachers[:1]))


def draw_calibration(students: Sequence[tuple[str, Sequence[np.ndarray]]], teacher: Sequence[np.ndarray]) -> Figure:
    """Draw accuracy over confidence for each student.

    Args:
        students: label of each student, with the bins ``(3, B)`` of its seeds, which share one curve.
        teacher: bins of the teacher; empty without one.
    """
    figure = new_figure(3.4, ["teacher", *(label for label, _ in students)])
    axis = figure.subplots()
    axis.plot([0, 100], [0, 100], color=INK, linewidth=0.8, alpha=0.5)
    for (name, seeds), (colour, line, mark) in zip(students, styles(len(students)), strict=True):
        x, y = _merged(seeds)
        axis.plot(x, y, line, marker=mark, markersize=4, color=colour, label=name)
    if teacher:
        x, y = _merged(teacher)
        axis.plot(x, y, "-", marker="*", color=INK, label="teacher")
    axis.set_xlabel("confidence, %")
    axis.set_ylabel("accuracy, %")
    legend(figure, axis)
    return figure


def _merged(bins: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return confidence and accuracy in percent over all runs, for bins with enough images."""
    counts, confidence, accuracy = np.stack(bins).astype(float).transpose(1, 0, 2)
    total = counts.sum(0)
    kept = total >= FEW
    weighted = [(counts * values).sum(0)[kept] / total[kept] for values in (confidence, accuracy)]
    return 100 * weighted[0], 100 * weighted[1]
