"""Matrices of class similarities, of a teacher and its students side by side."""

from collections.abc import Sequence
from textwrap import wrap

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from stkd_lightning.reporting.figures.style import new_figure
from stkd_lightning.utilities.text import printable

NAMED = 24  # largest number of classes with names at the axis
MOST = 5  # largest number of students
CLASSES = 2048  # the order of more classes takes minutes


def matrices(teacher: np.ndarray, students: Sequence[tuple[str, np.ndarray]], class_names: Sequence[str]) -> Figure:
    """Draw matrices ``(K, K)`` without their diagonals, in an order that puts the teacher's similar classes together.

    Each student has the rank correlation r of its matrix with the teacher's, where that is defined.

    Args:
        teacher: matrix of the teacher.
        students: label and matrix of each student; the first ones are drawn.
        class_names: names of the K classes.
    """
    order = _clustered(teacher)
    names = [printable(name) for name in class_names]
    panels = [("teacher", teacher), *students[:MOST]]
    rows = -(-len(panels) // 2)
    figure = new_figure(0.4 + 2.5 * rows)
    axes = figure.subplots(rows, 2, squeeze=False)
    shown = [_off_diagonal(matrix)[np.ix_(order, order)] for _, matrix in panels]
    stacked = np.stack(shown)
    known = stacked[np.isfinite(stacked)]
    low, high = np.percentile(known, [5, 99.8]) if known.size else (1e-6, 1.0)
    low, high = max(low, 1e-6), max(high, 2e-6)
    norm = LogNorm(low, high)
    image = None
    for axis, (label, matrix), values in zip(axes.flat, panels, shown, strict=False):
        image = axis.imshow(values, norm=norm, cmap="viridis", interpolation="nearest")
        correlation = "" if matrix is teacher else _correlation(matrix, teacher)
        axis.set_title("\n".join(wrap(label, 26)) + correlation)
        axis.set_xticks([])
        axis.set_yticks([])
        if len(names) <= NAMED and axis in axes[:, 0]:
            axis.set_yticks(range(len(names)), [names[i][:14] for i in order], fontsize=7)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    if image is not None:
        bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.6, aspect=40)
        bar.ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)) if high > 10 * low else MaxNLocator(4))
        bar.ax.xaxis.set_major_formatter("{x:g}")
        bar.ax.xaxis.set_minor_locator(NullLocator())
    return figure


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


def _correlation(student: np.ndarray, teacher: np.ndarray) -> str:
    """Return Spearman's correlation of the entries of two matrices in words, without their diagonals.

    It is not defined for two classes in a symmetric matrix, which has one entry.
    """
    from scipy.stats import spearmanr

    a, b = _off_diagonal(student).ravel(), _off_diagonal(teacher).ravel()
    kept = ~(np.isnan(a) | np.isnan(b))
    if min(len(np.unique(values[kept])) for values in (a, b)) < 2:
        return ""
    return f"\nr = {float(spearmanr(a[kept], b[kept]).statistic):.3f}"
