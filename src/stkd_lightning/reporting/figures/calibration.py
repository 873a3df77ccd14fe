"""Whether a network is right as often as it is sure: reliability diagrams (arXiv:1706.04599)."""

from collections.abc import Sequence

import numpy as np

from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.figures.style import INK, legend, new, styles
from stkd_lightning.reporting.grouping import Setting

FEW = 5  # images of a bin that is left out


def calibration(settings: Sequence[Setting]) -> Picture | None:
    """Draw accuracy over confidence for each setting, the images of its seeds together.

    Args:
        settings: of one pair of networks.
    """
    found = [(s, own) for s in settings if (own := [d for r in s.runs if (d := r.diagnostics)])]
    if not found:
        return None
    figure = new(3.4, ["teacher", *(s.label for s, _ in found)])
    axis = figure.subplots()
    axis.plot([0, 100], [0, 100], color=INK, linewidth=0.8, alpha=0.5)
    for (setting, own), (colour, line, mark) in zip(found, styles(len(found)), strict=True):
        x, y = _together([d.student_calibration for d in own])
        axis.plot(x, y, line, marker=mark, markersize=4, color=colour, label=setting.label)
    teachers = [d.teacher_calibration for _, own in found for d in own if d.has_teacher]
    if teachers:
        x, y = _together(teachers[:1])
        axis.plot(x, y, "-", marker="*", color=INK, label="teacher")
    axis.set_xlabel("confidence, %")
    axis.set_ylabel("accuracy, %")
    legend(figure, axis)
    caption = (
        "Below the line a network is surer than it is right. Images that the students' training did not see (a teacher "
        f"that was loaded may have), in bins of confidence; bins of fewer than {FEW} are left out."
    )
    return Picture("calibration", "Calibration", caption, figure)


def _together(bins: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return confidence and accuracy in percent, of bins that hold enough images of all runs."""
    counts, confidence, accuracy = np.stack(bins).astype(float).transpose(1, 0, 2)
    total = counts.sum(0)
    kept = total >= FEW
    weighted = [(counts * values).sum(0)[kept] / total[kept] for values in (confidence, accuracy)]
    return 100 * weighted[0], 100 * weighted[1]
