"""Style of figures: narrow enough for a phone, colour-blind safe, readable on light and dark backgrounds."""

import io
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from stkd_lightning.reporting.diagnostics_file import Array
from stkd_lightning.reporting.figures.fonts import escape_missing, fonts_for

INK = "#1d1d22"  # of text and axes; ``svg`` replaces it by the text colour of the page
WIDTH = 5.0  # inches
# Okabe and Ito's colour-blind safe palette, without black and yellow, which one of the backgrounds would hide.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
LINES = ("-", "--", ":", "-.")
MARKS = ("o", "s", "^", "D", "v", "P")
STYLE: Any = {
    "font.size": 10,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.parse_math": False,  # a class name may contain dollar signs
    "svg.fonttype": "none",
    "svg.hashsalt": "stkd-lightning",  # equal figures give equal files
    "figure.constrained_layout.use": True,
}


@contextmanager
def figure_style(texts: Iterable[str] = ()) -> Iterator[None]:
    """Apply this style to figures created and drawn in the context.

    Args:
        texts: names in the figures, for which installed fonts are found.
    """
    families = ["sans-serif", *fonts_for("".join(texts))]
    with mpl.rc_context({**STYLE, "font.family": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a browser has more fonts; ``png`` shows escapes
        warnings.filterwarnings("ignore", "Matplotlib currently does not support")  # joined letters of some scripts
        yield


def new_figure(height: float, labels: Sequence[str] = ()) -> Figure:
    """Return an empty figure, created without pyplot, which would keep it in memory.

    Args:
        height: height in inches, without the legend.
        labels: labels of a legend below; they add to the height.
    """
    return Figure(figsize=(WIDTH, height + 0.19 * -(-len(labels) // _columns(labels))))


def legend(figure: Figure, axis: Axes) -> None:
    """Put the legend of an axis below the figure, in as many columns as the labels leave room for."""
    legend_below(figure, axis.get_legend_handles_labels()[0])


def legend_below(figure: Figure, handles: Sequence[Artist]) -> None:
    """Put a legend of artists with labels below the figure, in as many columns as the labels leave room for."""
    labels = [str(handle.get_label()) for handle in handles]
    figure.legend(handles, labels, loc="outside lower center", ncols=_columns(labels))


def _columns(labels: Sequence[str]) -> int:
    return max(1, min(3, 60 // (max(map(len, labels), default=0) + 8)))


def mean_and_band(axis: Axes, x: Array, values: Sequence[Array], style: tuple[str, str, str], label: str) -> None:
    """Draw the mean over seeds as a line, and a band from the lowest to the highest seed.

    Args:
        axis: axis to draw on.
        x: ``(L,)``.
        values: ``(L,)`` for each seed, at least one.
        style: colour, line style and marker, as ``styles`` returns them.
        label: label of the line in a legend.
    """
    (colour, line, mark), stacked = style, np.stack(values)
    axis.plot(x, stacked.mean(0), line, marker=mark, markersize=4, color=colour, label=label)
    axis.fill_between(x, stacked.min(0), stacked.max(0), color=colour, alpha=0.15, linewidth=0)


def over_epochs(
    axis: Axes, runs: Sequence[Mapping[int, float]], style: tuple[str, str, str], label: str, factor: float = 1.0
) -> None:
    """Draw the mean of runs over the epochs that all of them have, and a band from the lowest to the highest run.

    Args:
        axis: axis to draw on.
        runs: value at each epoch, for each run.
        style: colour, line style and marker; a single epoch is drawn as a marker.
        label: label of the line in a legend.
        factor: of the values.
    """
    epochs = np.array(sorted(set.intersection(*(set(run) for run in runs))))
    values = [factor * np.array([run[epoch] for epoch in epochs]) for run in runs]
    colour, line, mark = style
    mean_and_band(axis, epochs, values, (colour, line, mark if len(epochs) == 1 else ""), label)


def logarithmic(axis: Axes) -> None:
    """Make the x axis logarithmic, with plain tick labels such as 200k: this style draws no formulas."""
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    thousands = EngFormatter(sep="")
    axis.xaxis.set_major_formatter(lambda x, _: thousands(x) if x >= 1000 else f"{x:g}")
    axis.xaxis.set_minor_locator(NullLocator())


def styles(n: int) -> list[tuple[str, str, str]]:
    """Return n triples of colour, line style and marker; they repeat after 24."""
    rotated = ((line, MARKS[i:] + MARKS[:i]) for i, line in enumerate(LINES))
    kinds = ((colour, line, mark) for line, marks in rotated for colour, mark in zip(COLOURS, marks, strict=True))
    return list(islice(cycle(kinds), n))


def svg(figure: Figure) -> str:
    """Return a figure as an ``<svg>`` element that takes the text colour of its page."""
    file = io.StringIO()
    with figure_style():
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    element = text[text.index("<svg") :].replace(INK, "currentColor")
    return re.sub(r"<metadata>.*?</metadata>", "", element, count=1, flags=re.DOTALL)


def png(figure: Figure, dpi: int = 120) -> bytes:
    """Return a figure as a PNG file with a white background; characters that no font has are shown as escapes."""
    file = io.BytesIO()
    escape_missing(figure)
    with figure_style():
        figure.savefig(file, format="png", dpi=dpi, facecolor="white")
    return file.getvalue()
