"""STKD's claim made visible: how far a student is from its teacher on virtual samples."""

from collections.abc import Sequence

import numpy as np

from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.figures.style import legend, new, styles
from stkd_lightning.reporting.grouping import Setting


def divergence(settings: Sequence[Setting]) -> Picture | None:
    """Draw the divergence over the weight of the first of two mixed samples, whole and among the incorrect classes.

    Args:
        settings: of one pair of networks.
    """
    found = [(s, own) for s in settings if (own := [d for r in s.runs if (d := r.diagnostics) and d.has_teacher])]
    if not found:
        return None
    figure = new(7.2, [s.label for s, _ in found])
    whole, others, same = figure.subplots(3, 1, sharex=True)
    for (setting, own), (colour, line, mark) in zip(found, styles(len(found)), strict=True):
        curves = (
            (whole, [d.divergence.mean(1) for d in own]),
            (others, [d.incorrect.mean(1) for d in own]),
            (same, [100 * d.agreement for d in own]),
        )
        for axis, values in curves:
            every, x = np.stack(values), own[0].weights
            axis.plot(x, every.mean(0), line, marker=mark, markersize=4, color=colour, label=setting.label)
            axis.fill_between(x, every.min(0), every.max(0), color=colour, alpha=0.15, linewidth=0)
    whole.set_ylabel("divergence, nats")
    others.set_ylabel("of it among\nincorrect classes, nats")
    same.set_ylabel("same first class, %")
    for axis in (whole, others):
        axis.set_ylim(bottom=0)
    same.set_xlabel("λ, weight of the first of two samples")
    legend(figure, whole)
    caption = (
        "T² KL(teacher ‖ student) at T = 4 on mixtures of two images that the students' training did not see (a "
        "teacher that was loaded may have); λ = 1: no mixture. Lower is nearer to the teacher. The second panel is the "
        "part among the classes that neither image has. Means over the seeds, bands from the lowest to the highest."
    )
    return Picture("divergence", "The teacher on virtual samples", caption, figure)
