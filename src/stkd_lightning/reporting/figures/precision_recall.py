"""Precision-recall curves of tagging students and their teacher."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.figures.style import INK, legend, new_figure, styles
from stkd_lightning.reporting.grouping import Setting
from stkd_lightning.reporting.tagging_diagnostics import RECALLS, TaggingDiagnostics

Line = tuple[str, np.ndarray]  # label of a network, and its precision at ``RECALLS``


def precision_recall(settings: Sequence[Setting]) -> Picture | None:
    """Draw the precision over the recall of all tags together.

    Args:
        settings: settings of one pair of networks; curves are means over their seeds.

    Returns:
        The figure; ``None`` without diagnostics of tagging students.
    """
    measured = [(s.label, [d for r in s.runs if (d := r.diagnostics_of(TaggingDiagnostics))]) for s in settings]
    measured = [(label, diagnostics) for label, diagnostics in measured if diagnostics]
    if not measured:
        return None
    teachers = [d.teacher_curve for _, diagnostics in measured for d in diagnostics if d.has_teacher]
    lines = [("teacher", curve) for curve in teachers[:1]]
    lines += [(label, np.mean([d.student_curve for d in diagnostics], axis=0)) for label, diagnostics in measured]
    caption = (
        "Precision of all tags together, the largest from each recall on, on samples that were not used for training; "
        "mean over the seeds."
    )
    return Picture("precision_recall", "Precision and recall", caption, draw_precision_recall(lines))


def draw_precision_recall(lines: Sequence[Line]) -> Figure:
    """Draw curves of precision.

    Args:
        lines: of the networks.
    """
    figure = new_figure(3.0, [label for label, _ in lines])
    axis = figure.subplots()
    drawn = iter(styles(len(lines)))
    for label, curve in lines:
        colour, style = (INK, "-") if label == "teacher" else next(drawn)[:2]
        axis.plot(100 * RECALLS, 100 * curve, style, color=colour, label=label)
    axis.set_xlabel("recall, %")
    axis.set_ylabel("precision, %")
    axis.set_ylim(0, 102)
    legend(figure, axis)
    return figure
