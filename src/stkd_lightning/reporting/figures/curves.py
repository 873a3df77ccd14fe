"""Validation score and agreement with the teacher over the epochs."""

from collections.abc import Sequence

from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.figures.style import legend, new_figure, over_epochs, styles
from stkd_lightning.reporting.grouping import Setting

AGREEMENT = "val/agreement"


def curves(settings: Sequence[Setting]) -> Picture | None:
    """Draw a line for each setting: the mean over its seeds, with a band from the lowest to the highest.

    Returns:
        The figure; ``None`` without validation scores.
    """
    score = settings[0].runs[0].summary.score
    titles = {f"val/{score.name}": f"validation {score.title}", AGREEMENT: "same top class as the teacher, %"}
    measured = {
        column: [
            (s, values) for s in settings if (values := [v for r in s.runs if (v := r.curves.validation.get(column))])
        ]
        for column in titles
    }
    panels = [column for column, lines in measured.items() if lines]
    if not panels:
        return None
    figure = new_figure(0.5 + 2.4 * len(panels), [s.label for s in settings])
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    style_of = {id(s): style for s, style in zip(settings, styles(len(settings)), strict=True)}
    for axis, column in zip(axes, panels, strict=True):
        for setting, runs in measured[column]:
            factor = 100 if column == AGREEMENT else score.factor
            over_epochs(axis, runs, style_of[id(setting)], setting.label, factor)
        axis.set_ylabel(titles[column])
    axes[-1].set_xlabel("epoch")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    legend(figure, axes[0])
    caption = "Lines: mean over the seeds; bands: from the lowest to the highest seed."
    return Picture("curves", "Training", caption, figure)
