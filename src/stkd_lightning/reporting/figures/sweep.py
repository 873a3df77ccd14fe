"""Validation score over swept numbers: a heat map for a grid of two numbers, else one panel per number."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.figures.style import COLOURS, logarithmic, new_figure
from stkd_lightning.reporting.grouping import Setting
from stkd_lightning.tasks.base import Score

Trial = tuple[dict[str, float], float]  # numbers by option, and validation score, in percent if it is a share


def sweep(settings: Sequence[Setting]) -> Picture | None:
    """Draw the validation scores of a sweep over numbers.

    Args:
        settings: settings of one method and one pair of networks.

    Returns:
        The figure; ``None`` without swept numbers or validation images.
    """
    trials = [trial for s in settings if (trial := _trial(s))]
    names = [n for n in dict.fromkeys(n for t, _ in trials for n in t) if len({t.get(n) for t, _ in trials}) > 1]
    trials = [t for t in trials if set(names) <= set(t[0])]
    if len(trials) < 2 or not names:
        return None
    score = settings[0].runs[0].summary.score
    best, value = (max if score.higher else min)(trials, key=lambda trial: trial[1])
    caption = (
        f"{settings[0].method}, {len(trials)} settings; last student on validation images, mean over the seeds. "
        f"Best: {value:.2f} {score.unit} with {', '.join(f'{n}={best[n]:g}' for n in names)}; the best of many values "
        "is too optimistic, so judge this setting on test images."
    )
    values = [{t[name] for t, _ in trials} for name in names]
    points = {tuple(t[name] for name in names) for t, _ in trials}
    grid = len(names) == 2 and len(points) == len(trials) == len(values[0]) * len(values[1])
    figure = _heat_map(trials, names) if grid else _panels(trials, names, score)
    return Picture(f"sweep_{settings[0].method}", f"Sweep of {settings[0].method}", caption, figure)


def _trial(setting: Setting) -> Trial | None:
    validation = [r.score(v) for r in setting.runs if (v := r.summary.student.validation)]
    if len(validation) < len(setting.runs):
        return None
    numbers = {name: number for name, value in setting.options.items() if (number := _number(value)) is not None}
    return numbers, setting.runs[0].summary.score.factor * float(np.mean(validation))


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _heat_map(trials: Sequence[Trial], names: Sequence[str]) -> Figure:
    down, across = ([*sorted({t[n] for t, _ in trials})] for n in names)
    values = np.full((len(down), len(across)), np.nan)
    for numbers, value in trials:
        values[down.index(numbers[names[0]]), across.index(numbers[names[1]])] = value
    figure = new_figure(1.2 + 0.45 * len(down))
    axis = figure.subplots()
    axis.imshow(values, cmap="viridis", aspect="auto")
    middle = (values.min() + values.max()) / 2
    for (i, j), value in np.ndenumerate(values):
        axis.text(j, i, f"{value:.1f}", ha="center", va="center", color="black" if value > middle else "white")
    axis.set_xticks(range(len(across)), [f"{v:g}" for v in across])
    axis.set_yticks(range(len(down)), [f"{v:g}" for v in down])
    axis.set_xlabel(names[1])
    axis.set_ylabel(names[0])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure


def _panels(trials: Sequence[Trial], names: Sequence[str], score: Score) -> Figure:
    figure = new_figure(0.4 + 2.1 * len(names))
    best = (max if score.higher else min)(range(len(trials)), key=lambda i: trials[i][1])
    for axis, name in zip(figure.subplots(len(names), 1, squeeze=False)[:, 0], names, strict=True):
        x, y = [t[name] for t, _ in trials], [value for _, value in trials]
        axis.plot(x, y, "o", color=COLOURS[0], alpha=0.8)
        axis.plot(x[best], y[best], "*", color=COLOURS[1], markersize=13)
        axis.set_xlabel(name)
        axis.set_ylabel(f"validation, {score.unit}" if score.unit else "validation")
        if min(x) > 0 and max(x) > 10 * min(x):
            logarithmic(axis)
    return figure
