"""Predictions of the teacher for mixtures of two images, which tell whether mixing gives useful targets."""

from collections.abc import Sequence

import numpy as np

from stkd_lightning.reporting.diagnostics import Array, Diagnostics
from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.figures.style import legend, mean_and_band, new_figure, styles
from stkd_lightning.reporting.grouping import Setting

WEIGHT = 0.7  # at which the caption gives the values
CAPTION = (
    "The teacher's predictions at T = 1 on mixtures of two images; λ = 1: no mixture. Top-1 on mixtures: the first "
    "class is the label of the larger weight; at λ = ½ either label counts. Contradiction: the label of the larger "
    "weight is less probable than the other label; pairs of equal labels and λ = ½ are left out. Little contradiction "
    "speaks for mixing. Much of it speaks for mixing less, or for mixed images that learn from the teacher alone, "
    "without the mixed label. Where both shares are low, the teacher sees a third class. Lines: mean over the runs; "
    "bands: from the lowest to the highest run."
)


def mixtures(settings: Sequence[Setting]) -> Picture | None:
    """Draw the teacher's entropy, top-1 and contradiction of the mixed label over the weight of the first sample.

    Args:
        settings: settings of one pair of networks; those of one teacher share a line.

    Returns:
        The figure; ``None`` without diagnostics of a teacher on mixtures.
    """
    teachers = _teachers(settings)
    if not teachers:
        return None
    labels = [label for label, _ in teachers]
    figure = new_figure(7.2, labels)
    axes = figure.subplots(3, 1, sharex=True)
    for (label, runs), style in zip(teachers, styles(len(teachers)), strict=True):
        for axis, (weights, values) in zip(axes, _panels(runs), strict=True):
            if values:
                mean_and_band(axis, weights, values, style, label)
    for axis, name in zip(
        axes, ("entropy, nats", "top-1 on\nmixtures, %", "contradiction of\nmixed label, %"), strict=True
    ):
        axis.set_ylabel(name)
        axis.set_ylim(bottom=0)
    axes[-1].set_xlabel("λ, weight of the first of two samples")
    legend(figure, axes[0])
    sentences = [CAPTION, *(f"At λ = {WEIGHT}, {label}: {_values(runs)}." for label, runs in teachers)]
    return Picture("mixtures", "The teacher on mixtures", " ".join(sentences), figure)


def _teachers(settings: Sequence[Setting]) -> list[tuple[str, list[Diagnostics]]]:
    """Return the diagnostics of each teacher, with a label; equal teachers have equal entropies."""
    teachers: dict[tuple[float, ...], tuple[str, list[Diagnostics]]] = {}
    for setting in settings:
        if runs := [d for d in setting.diagnostics_of(Diagnostics) if d.teacher_entropy.size]:
            entropies = np.mean([d.teacher_entropy for d in runs], axis=0).round(3)
            teachers.setdefault(tuple(entropies.tolist()), (f"teacher of {setting.label}", []))[1].extend(runs)
    if len(teachers) == 1:
        return [("teacher", runs) for _, runs in teachers.values()]
    return list(teachers.values())


def _panels(runs: Sequence[Diagnostics]) -> list[tuple[Array, list[Array]]]:
    """Return the weights and each run's values of the three panels: entropies in nats, and shares in %."""
    weights = runs[0].weights
    return [
        (weights, [d.teacher_entropy for d in runs]),
        (weights, [100 * d.teacher_top1 for d in runs]),
        (weights[1:], [100 * d.contradiction for d in runs if d.contradiction.size]),
    ]


def _values(runs: Sequence[Diagnostics]) -> str:
    """Return the values at ``WEIGHT`` as text, means over the runs."""
    texts = []
    for (weights, values), text in zip(
        _panels(runs), ("entropy {:.2f} nats", "top-1 on mixtures {:.1f} %", "contradiction {:.1f} %"), strict=True
    ):
        if values:
            texts.append(text.format(np.mean(values, axis=0)[np.abs(weights - WEIGHT).argmin()]))
    return ", ".join(texts)
