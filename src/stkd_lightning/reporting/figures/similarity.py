"""Class similarities: the classes that a network confuses."""

from collections.abc import Sequence
from textwrap import wrap

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.ticker import LogLocator, NullLocator

from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.figures.style import new_figure
from stkd_lightning.reporting.grouping import Setting
from stkd_lightning.utilities.text import printable

NAMED = 24  # largest number of classes with names at the axis
MOST = 5  # largest number of settings
CLASSES = 2048  # the order of more classes takes minutes


def similarity(settings: Sequence[Setting]) -> Picture | None:
    """Draw class-similarity matrices of the teacher and of students side by side.

    Args:
        settings: settings of one pair of networks, the best first; the first seed of each is drawn.

    Returns:
        The figure; ``None`` without diagnostics of students with a teacher.
    """
    measured = [(s, d) for s in settings if (d := s.runs[0].diagnostics) and d.has_teacher]
    measured = [(s, d) for s, d in measured if d.num_classes == measured[0][1].num_classes][:MOST]
    if not measured or not 1 < measured[0][1].num_classes <= CLASSES:
        return None
    teacher = measured[0][1].teacher_similarity
    order = _clustered(teacher)
    names = [printable(name) for name in measured[0][0].runs[0].summary.data.class_names]
    panels = [("teacher", teacher), *((s.label, d.student_similarity) for s, d in measured)]
    rows = -(-len(panels) // 2)
    figure = new_figure(0.4 + 2.5 * rows)
    axes = figure.subplots(rows, 2, squeeze=False)
    shown = [_off_diagonal(matrix)[np.ix_(order, order)] for _, matrix in panels]
    stacked = np.stack(shown)
    known = stacked[np.isfinite(stacked)]
    low, high = np.percentile(known, [5, 99.8]) if known.size else (1e-6, 1.0)
    norm = LogNorm(max(low, 1e-6), max(high, 2e-6))
    image = None
    for axis, (label, matrix), values in zip(axes.flat, panels, shown, strict=False):
        image = axis.imshow(values, norm=norm, cmap="viridis", interpolation="nearest")
        correlation = "" if matrix is teacher else f"\nr = {_correlation(matrix, teacher):.3f}"
        axis.set_title("\n".join(wrap(label, 26)) + correlation)
        axis.set_xticks([])
        axis.set_yticks([])
        if len(names) <= NAMED and axis in axes[:, 0]:
            axis.set_yticks(range(len(names)), [names[i][:14] for i in order], fontsize=7)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    if image is not None:
        bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.6, aspect=40)
        bar.ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        bar.ax.xaxis.set_major_formatter("{x:g}")
        bar.ax.xaxis.set_minor_locator(NullLocator())
    caption = (
        "Rows: mean distribution at T = 4 over the images of a class; the class itself is left out. The order puts "
        "classes that are similar for the teacher next to each other. r: rank correlation with the teacher's matrix."
    )
    return Picture("similarity", "Class similarities", caption, figure)


def _off_diagonal(matrix: np.ndarray) -> np.ndarray:
    """Return a matrix with NaN on the diagonal and in the rows of classes without images."""
    values = matrix.astype(float).copy()
    np.fill_diagonal(values, np.nan)
    values[matrix.sum(1) == 0] = np.nan
    return values


def _clustered(matrix: np.ndarray) -> np.ndarray:
    """Return an order of the classes in which similar classes are neighbours."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(matrix) < 3:
        return np.arange(len(matrix))
    symmetric = np.log(np.clip((matrix + matrix.T) / 2, 1e-12, None))
    distance = symmetric.max() - symmetric
    np.fill_diagonal(distance, 0)
    return leaves_list(linkage(squareform(distance, checks=False), "average", optimal_ordering=len(matrix) <= 300))


def _correlation(student: np.ndarray, teacher: np.ndarray) -> float:
    """Return Spearman's correlation of the entries of two matrices, without their diagonals."""
    from scipy.stats import spearmanr

    a, b = _off_diagonal(student).ravel(), _off_diagonal(teacher).ravel()
    kept = ~(np.isnan(a) | np.isnan(b))
    return float(spearmanr(a[kept], b[kept]).statistic)
