"""Images that student and teacher have right: both, one of them, or neither."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from stkd_lightning.reporting.class_counts import Outcomes, summed
from stkd_lightning.reporting.class_predictions import ClassPredictions
from stkd_lightning.reporting.figures.class_accuracy import classified, split_of
from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.figures.style import COLOURS, legend, new_figure
from stkd_lightning.reporting.grouping import Setting
from stkd_lightning.utilities.text import shortened

WORDS = ("both right", "teacher only", "student only", "both wrong")
SHADES = ("#B8C4CE", COLOURS[1], COLOURS[2], "#6B6B75")


def outcomes(settings: Sequence[Setting]) -> Picture | None:
    """Draw the four outcomes of each setting as one bar.

    Args:
        settings: settings of one pair of networks.

    Returns:
        The figure; ``None`` without diagnostics of a teacher.
    """
    measured = [(s, [d for d in seeds if len(d.teacher_first)]) for s, seeds in classified(settings)]
    students = [(s.label, seeds) for s, seeds in measured if seeds]
    if not students:
        return None
    caption = (
        f"Shares of {split_of(settings)} images that student and teacher have right, mean over the seeds. An image "
        "that only the teacher has right is what the student could still learn from it."
    )
    return Picture("outcomes", "Right and wrong beside the teacher", caption, draw_outcomes(students))


def draw_outcomes(students: Sequence[tuple[str, Sequence[ClassPredictions]]]) -> Figure:
    """Draw a bar for each student, from images that both networks have right to those that neither has.

    Args:
        students: label of each student, with the predictions of its seeds beside its teacher.
    """
    totals = [summed([Outcomes.of(p.labels, p.student_first, p.teacher_first) for p in seeds]) for _, seeds in students]
    shares = np.array([100 * np.array(total) / max(1, sum(total)) for total in totals])
    figure = new_figure(0.6 + 0.35 * len(students), [f"{word} 10.0 %" for word in WORDS])
    axis, rows, left = figure.subplots(), np.arange(len(students)), np.zeros(len(students))
    words = [f"{word} {share:.1f} %" for word, share in zip(WORDS, shares[0], strict=True)]
    for values, word, colour in zip(shares.T, words if len(students) == 1 else WORDS, SHADES, strict=True):
        axis.barh(rows, values, 0.6, left=left, color=colour, label=word)
        for row in np.flatnonzero(values >= 5).tolist():
            axis.text(
                left[row] + values[row] / 2, row, f"{values[row]:.1f}", ha="center", va="center", fontsize=8,
                color="black" if colour == SHADES[0] else "white",
            )  # fmt: skip
        left = left + values
    axis.set_yticks(rows, [shortened(label, 24) for label, _ in students], fontsize=8)
    axis.set_ylim(len(students) - 0.5, -0.5)
    axis.set_xlim(0, 100)
    axis.set_xlabel("images, %")
    axis.tick_params(axis="y", length=0)
    legend(figure, axis)
    return figure
