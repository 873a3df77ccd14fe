"""IoU or average precision of each class, of the teacher, the student trained alone and those of each method."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.figures.style import INK, legend, new_figure, styles
from stkd_lightning.reporting.grouping import Setting
from stkd_lightning.reporting.summary import NetworkSummary
from stkd_lightning.tasks.segmentation_metrics import CLASS_IOU, loggable
from stkd_lightning.tasks.tagging_metrics import CLASS_AP
from stkd_lightning.utilities.text import printable, shortened

MOST = 40  # classes in the figure
ROW = 0.17  # inches

Line = tuple[str, np.ndarray]  # label of a network, and the score of each class in percent; NaN where it is unknown


@dataclass(frozen=True)
class ClassScore:
    """A score of single classes.

    Attributes:
        prefix: start of the names of its metrics.
        name: of the figure.
        title: of the figure.
        words: for people.
        axis: beside the axis.
        samples: word for what is tested.
    """

    prefix: str
    name: str
    title: str
    words: str
    axis: str
    samples: str


IOU = ClassScore(
    CLASS_IOU, "class_iou", "IoU of each class", "Intersection over union of the selected students with the truth",
    "IoU", "images",
)  # fmt: skip
AVERAGE_PRECISION = ClassScore(
    CLASS_AP, "class_ap", "Average precision of each tag", "Average precision of the selected students",
    "average precision", "samples",
)  # fmt: skip


def class_scores(settings: Sequence[Setting], score: ClassScore) -> Picture | None:
    """Draw a score of each class on test samples as points, one row for each class.

    Args:
        settings: settings of one pair of networks.
        score: the score.

    Returns:
        The figure; ``None`` without such figures.
    """
    names = settings[0].runs[0].summary.data.class_names
    students = [(s.label, _mean([r.summary.student for r in s.runs], names, score)) for s in settings]
    students = [(label, values) for label, values in students if not np.isnan(values).all()]
    if not students:
        return None
    lines = [*_first(settings, "teacher", names, score), *_first(settings, "alone", names, score), *students]
    shown = len(_lowest(lines))
    caption = (
        f"{score.words}, over all test {score.samples}; mean over the seeds."
        + f" Shown are the {shown} classes of the lowest {score.axis} of {len(names)}." * (shown < len(names))
    )
    return Picture(score.name, score.title, caption, draw_class_scores(lines, names, "test", score))


def draw_class_scores(lines: Sequence[Line], names: Sequence[str], split: str, score: ClassScore) -> Figure:
    """Draw the score of each class, or of the classes where it is lowest, as points.

    Args:
        lines: of the networks.
        names: of the classes.
        split: name of the samples' split.
        score: the score.
    """
    order = _lowest(lines)
    figure = new_figure(0.7 + ROW * len(order), [label for label, _ in lines])
    axis = figure.subplots()
    rows = np.arange(len(order))
    shown = np.array([values[order] for _, values in lines])
    axis.hlines(rows, np.nanmin(shown, 0), np.nanmax(shown, 0), color=INK, linewidth=0.8, alpha=0.3)
    drawn = iter(styles(len(lines)))
    for (label, _), values in zip(lines, shown, strict=True):
        colour, _, mark = (INK, "", "*") if label == "teacher" else next(drawn)
        axis.plot(values, rows, mark, color=colour, markersize=8 if mark == "*" else 5, alpha=0.85, label=label)
    axis.set_yticks(rows, [shortened(printable(names[c]), 24) for c in order], fontsize=8)
    axis.set_ylim(len(order) - 0.4, -0.6)
    axis.set_xlim(-2, 102)
    axis.set_xlabel(f"{score.axis} on {split} {score.samples}, %")
    axis.tick_params(axis="y", length=0)
    legend(figure, axis)
    return figure


def _lowest(lines: Sequence[Line]) -> np.ndarray:
    """Return the classes that occur, or those of them with the lowest mean score, by descending score."""
    values = np.array([values for _, values in lines])
    occurs = np.flatnonzero(~np.isnan(values).all(0))
    return occurs[np.argsort(-np.nanmean(values[:, occurs], axis=0), kind="stable")][-MOST:]


def _first(settings: Sequence[Setting], label: str, names: Sequence[str], score: ClassScore) -> list[Line]:
    """Return the first teacher, or the first student trained alone, whose figures are known."""
    networks = [n for s in settings for r in s.runs if (n := r.summary.networks.get(label))]
    lines = [(label, _mean([network], names, score)) for network in networks]
    return [line for line in lines if not np.isnan(line[1]).all()][:1]


def _mean(networks: Sequence[NetworkSummary], names: Sequence[str], score: ClassScore) -> np.ndarray:
    """Return the score of each class in percent, mean over networks; of the selected weights where there are any."""
    tests = [network.selected_test for network in networks]
    return 100 * np.mean(
        [[test.get(f"{score.prefix}{loggable(name)}", np.nan) for name in names] for test in tests], axis=0
    )
