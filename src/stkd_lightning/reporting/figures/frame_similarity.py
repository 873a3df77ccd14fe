"""Similarities between the frames of a clip, which IUSP transfers (arXiv:2009.01759)."""

from collections.abc import Sequence
from textwrap import wrap

import numpy as np
from matplotlib.figure import Figure

from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.figures.style import new_figure
from stkd_lightning.reporting.grouping import Setting
from stkd_lightning.reporting.tagging_diagnostics import TaggingDiagnostics

MOST = 5  # students


def frame_similarity(settings: Sequence[Setting]) -> Picture | None:
    """Draw the frame-similarity matrices of the teacher and of students side by side.

    Args:
        settings: settings of one pair of networks, the best first; the first seed of each is drawn.

    Returns:
        The figure; ``None`` without diagnostics of networks that have frames.
    """
    measured = [(s.label, d) for s in settings if (d := s.runs[0].diagnostics_of(TaggingDiagnostics))]
    students = [(label, d.student_similarity) for label, d in measured if d.student_similarity.size]
    teachers = [d.teacher_similarity for _, d in measured if d.teacher_similarity.size]
    if not students:
        return None
    caption = (
        "Inner products between the frames of one clip that was not used for training, rows of length 1; time runs to "
        "the right and down. IUSP makes the student's matrix like the teacher's."
    )
    panels = [("teacher", matrix) for matrix in teachers[:1]] + students[:MOST]
    return Picture("frame_similarity", "Similarities between frames", caption, draw_frame_similarity(panels))


def draw_frame_similarity(panels: Sequence[tuple[str, np.ndarray]]) -> Figure:
    """Draw matrices ``(F, F)`` on one scale.

    Args:
        panels: label and matrix of each network.
    """
    rows = -(-len(panels) // 3)
    figure = new_figure(0.3 + 1.9 * rows)
    axes = figure.subplots(rows, 3, squeeze=False)
    largest = max(float(np.abs(matrix).max()) for _, matrix in panels) or 1.0
    for axis, (label, matrix) in zip(axes.flat, panels, strict=False):
        axis.imshow(matrix, vmin=0, vmax=largest, cmap="viridis", interpolation="nearest")
        axis.set_title("\n".join(wrap(label, 20)), fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    return figure
