"""Divergence of a student from its teacher on virtual samples, which STKD claims to reduce."""

from collections.abc import Sequence

from stkd_lightning.reporting.diagnostics import Diagnostics
from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.figures.style import legend, mean_and_band, new_figure, styles
from stkd_lightning.reporting.grouping import Setting


def divergence(settings: Sequence[Setting]) -> Picture | None:
    """Draw total divergence, its part among incorrect classes, and agreement over the weight of the first sample.

    Args:
        settings: settings of one pair of networks.

    Returns:
        The figure; ``None`` without diagnostics of students with a teacher.
    """
    measured = [(s, seeds) for s in settings if (seeds := [d for d in s.diagnostics_of(Diagnostics) if d.has_teacher])]
    if not measured:
        return None
    figure = new_figure(7.2, [s.label for s, _ in measured])
    total, incorrect, agreement = figure.subplots(3, 1, sharex=True)
    for (setting, seeds), style in zip(measured, styles(len(measured)), strict=True):
        curves = (
            (total, [d.divergence.mean(1) for d in seeds]),
            (incorrect, [d.incorrect.mean(1) for d in seeds]),
            (agreement, [100 * d.agreement for d in seeds]),
        )
        for axis, values in curves:
            mean_and_band(axis, seeds[0].weights, values, style, setting.label)
    total.set_ylabel("divergence, nats")
    incorrect.set_ylabel("part among\nincorrect classes, nats")
    agreement.set_ylabel("same top class, %")
    for axis in (total, incorrect):
        axis.set_ylim(bottom=0)
    agreement.set_xlabel("λ, weight of the first of two samples")
    legend(figure, total)
    caption = (
        "T² KL(teacher ‖ student) at T = 4 on mixtures of two images; λ = 1: no mixture. Lower means closer to the "
        "teacher. Second panel: the part among the classes of neither image. The images were not used to train the "
        "students; a teacher loaded from a checkpoint may have seen them. Lines: mean over the seeds; bands: from the "
        "lowest to the highest seed."
    )
    return Picture("divergence", "The teacher on virtual samples", caption, figure)
