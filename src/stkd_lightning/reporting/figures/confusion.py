"""Classes that a student takes for each other: a matrix of few classes, the most frequent pairs of many."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stkd_lightning.reporting.class_counts import Confused, confused_pairs, confusion_matrix
from stkd_lightning.reporting.class_predictions import ClassPredictions
from stkd_lightning.reporting.figures.class_accuracy import first_classified, split_of
from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.figures.style import COLOURS, INK, legend, new_figure
from stkd_lightning.reporting.grouping import Setting
from stkd_lightning.utilities.text import printable, shortened

MATRIX = 20  # largest number of classes of a matrix
MOST = 20  # pairs of classes
ROW = 0.2  # inches


def confusion(setting: Setting) -> Picture | None:
    """Draw the classes that a student confuses.

    Args:
        setting: setting of the student; its first seed with diagnostics is drawn.

    Returns:
        The figure; ``None`` without diagnostics that hold the classes of images, and of many classes without a mistake.
    """
    names = setting.runs[0].summary.data.class_names
    if (measured := first_classified(setting)) is None:
        return None
    seed, predictions = measured
    if (figure := draw_confusion(predictions, names)) is None:
        return None
    words = (
        "Rows: true class; columns: class of the student. Numbers are images, colours their share in the row."
        if len(names) <= MATRIX
        else f"The {MOST} most frequent mistakes: true class → class of the student. In brackets: images of the class."
    )
    caption = f"{len(predictions.labels):,} {split_of([setting])} images; student of {setting.label}, seed {seed}. "
    return Picture("confusion", "Confused classes", caption + words, figure)


def draw_confusion(predictions: ClassPredictions, class_names: Sequence[str]) -> Figure | None:
    """Draw a matrix of up to 20 classes, or the most frequent pairs of more; ``None`` if there are none.

    Args:
        predictions: first classes of a student, and perhaps of its teacher.
        class_names: names of the classes.
    """
    if len(class_names) <= MATRIX:
        return _draw_matrix(predictions, class_names)
    pairs = confused_pairs(predictions.labels, predictions.student_first, len(class_names))[:MOST]
    return _draw_pairs(pairs, predictions, class_names) if pairs else None


def _draw_matrix(predictions: ClassPredictions, class_names: Sequence[str]) -> Figure:
    number = len(class_names)
    counts = confusion_matrix(predictions.labels, predictions.student_first, number)
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [shortened(printable(name), 14) for name in class_names]
    figure = new_figure(4.9)
    axis = figure.subplots()
    image = axis.imshow(shares, vmin=0, vmax=100, cmap="Blues", interpolation="nearest")
    size = 9 if number <= 10 else 7 if number <= 14 else 5
    for row, column in zip(*counts.nonzero(), strict=True):
        colour = "white" if shares[row, column] > 55 else "black"
        axis.text(column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=size, color=colour)
    axis.set_xticks(range(number), names, fontsize=7, rotation=90 if max(map(len, names)) > 2 else 0)
    axis.set_yticks(range(number), names, fontsize=7)
    axis.tick_params(length=0)
    axis.set_xlabel("class of the student")
    axis.set_ylabel("true class")
    axis.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axis, location="bottom", shrink=0.6, aspect=40)
    bar.set_label("share of the true class, %", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def _draw_pairs(pairs: Sequence[Confused], predictions: ClassPredictions, class_names: Sequence[str]) -> Figure:
    with_teacher = len(predictions.teacher_first) > 0
    totals = np.bincount(predictions.labels, minlength=len(class_names))
    names = [shortened(printable(name), 18) for name in class_names]
    figure = new_figure(0.7 + ROW * len(pairs), ["student", "teacher"] if with_teacher else ())
    axis, rows = figure.subplots(), np.arange(len(pairs))
    axis.barh(rows, [pair.images for pair in pairs], 0.6, color=COLOURS[0], label="student")
    if with_teacher:
        taught = [int(((predictions.labels == p.label) & (predictions.teacher_first == p.first)).sum()) for p in pairs]
        axis.plot(taught, rows, "*", color=INK, markersize=8, label="teacher")
        legend(figure, axis)
    labels = [f"{names[pair.label]} ({totals[pair.label]}) → {names[pair.first]}" for pair in pairs]
    axis.set_yticks(rows, labels, fontsize=8)
    axis.set_ylim(len(pairs) - 0.4, -0.6)
    axis.set_xlim(left=0)
    axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axis.set_xlabel("images")
    axis.tick_params(axis="y", length=0)
    return figure
