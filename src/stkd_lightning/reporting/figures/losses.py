"""Training and validation loss over the epochs, and the terms of the training loss."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from stkd_lightning.reporting.curves import Curve
from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.figures.style import INK, legend, legend_below, new_figure, over_epochs, styles
from stkd_lightning.reporting.grouping import Setting
from stkd_lightning.utilities.text import printable, shortened

TRAINING, VALIDATION = "train/loss", "val/cross_entropy"
TITLES = {TRAINING: "training loss", VALIDATION: "validation\ncross-entropy, nats"}
BESIDE = {TRAINING, "train/temperature"}  # the sum, and what losses log beside their terms
MOST_SETTINGS, MOST_TERMS = 4, 8  # in the figure of the terms


def losses(settings: Sequence[Setting]) -> Picture | None:
    """Draw the training loss and the validation cross-entropy of each setting.

    Args:
        settings: settings of one pair of networks.

    Returns:
        The figure; ``None`` without training losses.
    """
    measured = {column: [(s, runs) for s in settings if (runs := _runs(s, column))] for column in TITLES}
    if not measured[TRAINING]:
        return None
    panels = [column for column, lines in measured.items() if lines]
    figure = new_figure(0.5 + 2.1 * len(panels), [s.label for s in settings])
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    style_of = {id(s): style for s, style in zip(settings, styles(len(settings)), strict=True)}
    for axis, column in zip(axes, panels, strict=True):
        for setting, runs in measured[column]:
            over_epochs(axis, runs, style_of[id(setting)], setting.label)
        axis.set_ylabel(TITLES[column])
    _epochs(axes[-1])
    legend(figure, axes[0])
    caption = (
        "Mean of the training loss in each epoch, and the cross-entropy of clean validation images. Lines: mean over "
        "the seeds; bands: from the lowest to the highest seed. Training losses of different methods have different "
        "units; a validation loss that rises while the training loss falls is a sign of overfitting."
    )
    return Picture("losses", "Training and validation loss", caption, figure)


def terms(settings: Sequence[Setting]) -> Picture | None:
    """Draw the terms of the training loss, one panel for each setting.

    Args:
        settings: settings of one pair of networks, the best first.

    Returns:
        The figure; ``None`` without a loss of several terms.
    """
    measured = [(s, found) for s in settings if len(found := _terms(s)) > 1][:MOST_SETTINGS]
    if not measured:
        return None
    names = list(dict.fromkeys(name for _, found in measured for name in found))
    style_of = dict(zip(names, styles(len(names)), strict=True))
    figure = new_figure(0.5 + 1.8 * len(measured), [*names, "sum"])
    axes = figure.subplots(len(measured), 1, sharex=True, squeeze=False)[:, 0]
    drawn: dict[object, Line2D] = {}
    for axis, (setting, found) in zip(axes, measured, strict=True):
        if total := _runs(setting, TRAINING):
            over_epochs(axis, total, (INK, "-", "o"), "sum")
        for name, runs in found.items():
            over_epochs(axis, runs, style_of[name], printable(name))
        axis.set_title(shortened(setting.label, 70), fontsize=9, loc="left")
        axis.set_ylabel("loss")
        drawn |= {line.get_label(): line for line in axis.get_lines()}
    _epochs(axes[-1])
    legend_below(figure, list(drawn.values()))
    caption = (
        "Terms as they are added up in the training loss, with their weights; mean in each epoch and over the seeds."
    )
    return Picture("terms", "Terms of the training loss", caption, figure)


def _runs(setting: Setting, column: str) -> list[Curve]:
    curves = [run.curves.training if column.startswith("train/") else run.curves.validation for run in setting.runs]
    return [curve for each in curves if (curve := each.get(column))]


def _terms(setting: Setting) -> dict[str, list[Curve]]:
    """Return the curves of the terms that every run of a setting has, without their sum, by name."""
    shared = set.intersection(*(set(run.curves.training) for run in setting.runs)) - BESIDE
    return {name.removeprefix("train/"): _runs(setting, name) for name in sorted(shared)[:MOST_TERMS]}


def _epochs(axis: Axes) -> None:
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
