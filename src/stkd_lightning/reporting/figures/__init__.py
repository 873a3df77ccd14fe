"""Pictures of runs, for reports and dashboards."""

from collections.abc import Sequence
from statistics import fmean

from stkd_lightning.reporting.figures.calibration import calibration
from stkd_lightning.reporting.figures.curves import curves
from stkd_lightning.reporting.figures.divergence import divergence
from stkd_lightning.reporting.figures.gallery import gallery
from stkd_lightning.reporting.figures.pareto import pareto
from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.figures.similarity import similarity
from stkd_lightning.reporting.figures.style import look, png, svg
from stkd_lightning.reporting.figures.sweep import sweep
from stkd_lightning.reporting.grouping import Setting

__all__ = ["Picture", "foremost", "look", "pareto", "pictures", "png", "svg"]


MOST = 8  # settings that are drawn beside each other


def pictures(settings: Sequence[Setting]) -> list[Picture]:
    """Draw what there is to see of runs with one pair of networks.

    Args:
        settings: of one group.
    """
    shown = foremost(settings)
    methods = list(dict.fromkeys(s.method for s in settings))
    with look():
        drawn = [
            curves(shown),
            *(sweep([s for s in settings if s.method == method]) for method in methods),
            divergence(shown),
            similarity(sorted(shown, key=promise, reverse=True)),
            calibration(shown),
            gallery(max(shown, key=promise)),
        ]
    return [picture for picture in drawn if picture]


def promise(setting: Setting) -> float:
    """Return the mean validation score, by which settings are chosen: higher is better; 0 where there is none."""
    scores = [r.score(r.summary.student.validation) for r in setting.runs if r.summary.student.validation]
    mean = fmean(scores) if scores else 0.0
    return mean if setting.runs[0].summary.score.higher else -mean


def foremost(settings: Sequence[Setting], most: int = MOST) -> list[Setting]:
    """Return settings that can be drawn beside each other: all, or the best of each method, and the next best.

    Args:
        settings: in order, which they keep.
        most: how many, where there are not more methods.
    """
    if len(settings) <= most:
        return list(settings)
    by_promise = sorted(settings, key=promise, reverse=True)
    methods = dict.fromkeys(s.method for s in settings)
    best = [next(s for s in by_promise if s.method == method) for method in methods]
    best += [s for s in by_promise if s not in best][: max(0, most - len(best))]
    return [s for s in settings if s in best]
