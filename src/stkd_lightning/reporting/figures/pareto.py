"""Score against the cost of a network."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.figures.style import INK, legend, logarithmic, new_figure, styles
from stkd_lightning.reporting.grouping import Setting
from stkd_lightning.reporting.run import Latency, network_key
from stkd_lightning.reporting.statistics import Spread
from stkd_lightning.reporting.summary import NetworkSummary
from stkd_lightning.utilities.text import printable


def pareto(settings: Sequence[Setting], latency: Latency) -> Picture:
    """Draw the networks of one data set as points: the score over parameters, operations, and latency.

    Args:
        settings: settings of one data set.
        latency: milliseconds for one image, by network; empty if not measured.
    """
    several = len({s.group for s in settings}) > 1
    labels = [f"{s.group.teacher} → {s.group.student}, {s.label}" if several else s.label for s in settings]
    students = [s.runs[0].summary.student for s in settings]
    points = list(zip(labels, students, map(_selected, settings), strict=True))
    teachers = {
        network_key(t): (t, r.score(t.test["last"]))
        for s in settings
        for r in s.runs
        if (t := r.summary.teacher) and t.test
    }
    score = settings[0].runs[0].summary.score
    panels = [("parameters", "parameters"), ("flops", "operations for one image (FLOPs)")]
    panels += [("latency", "measured ms for one image")] * bool(latency)
    figure = new_figure(0.5 + 2.3 * len(panels), ["teacher", *labels])
    axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axis, (cost, label_of_cost) in zip(axes, panels, strict=True):
        drawn: list[float] = []
        for (label, student, spread), (colour, _, mark) in zip(points, styles(len(points)), strict=True):
            if x := _cost(student, cost, latency):
                error = None if spread.std is None else score.factor * spread.std
                axis.errorbar(x, score.factor * spread.mean, error, fmt=mark, color=colour, capsize=3, label=label)
                drawn.append(x)
        for i, (teacher, taught) in enumerate(teachers.values()):
            if x := _cost(teacher, cost, latency):
                y = score.factor * taught
                axis.plot(x, y, "*", color=INK, markersize=11, label=None if i else "teacher")
                name, below = printable(teacher.network[:40]), (0, -13)
                axis.annotate(name, (x, y), xytext=below, textcoords="offset points", ha="center", fontsize=8)
                drawn.append(x)
        _scale(axis, drawn)
        axis.set_xlabel(label_of_cost)
        axis.set_ylabel(f"test {score.title}")
        axis.margins(y=0.15)
    legend(figure, axes[0])
    better = "Higher" if score.higher else "Lower"
    caption = (
        f"{better} and further left is better. Test {score.label} of the selected student, mean and standard deviation "
        "over the seeds; a multiply-add counts as two operations."
    )
    if latency:
        caption += " Latency: one image at a time in float32, measured side by side on this machine."
    return Picture("pareto", f"Cost and {score.label} on {settings[0].group.data}", caption, figure)


def _selected(setting: Setting) -> Spread:
    return Spread.of([r.score(r.summary.student.test["selected"]) for r in setting.runs])


def _cost(network: NetworkSummary, kind: str, latency: Latency) -> float:
    """Return the cost of a network; 0 if it is unknown."""
    return latency.get(network_key(network), 0.0) if kind == "latency" else float(getattr(network, kind))


def _scale(axis: Axes, drawn: Sequence[float]) -> None:
    """Leave a margin beside the points; use a logarithmic axis if they are far apart."""
    if not drawn:
        return
    if max(drawn) > 3 * min(drawn):
        logarithmic(axis)
    low, high = np.log(min(drawn)), np.log(max(drawn))
    margin = max(0.15, 0.12 * (high - low))
    axis.set_xlim(np.exp(low - margin), np.exp(high + margin))
