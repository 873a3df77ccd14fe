"""Figures of runs, for reports and dashboards."""

from collections.abc import Sequence
from statistics import fmean

from stkd_lightning.reporting.figures.calibration import calibration
from stkd_lightning.reporting.figures.category_similarity import category_similarity
from stkd_lightning.reporting.figures.class_accuracy import class_accuracy
from stkd_lightning.reporting.figures.class_scores import AVERAGE_PRECISION, IOU, class_scores
from stkd_lightning.reporting.figures.clip_gallery import clip_gallery
from stkd_lightning.reporting.figures.confusion import confusion
from stkd_lightning.reporting.figures.curves import curves
from stkd_lightning.reporting.figures.divergence import divergence
from stkd_lightning.reporting.figures.fonts import escape_missing
from stkd_lightning.reporting.figures.frame_similarity import frame_similarity
from stkd_lightning.reporting.figures.gallery import gallery
from stkd_lightning.reporting.figures.losses import losses, terms
from stkd_lightning.reporting.figures.mask_gallery import mask_gallery
from stkd_lightning.reporting.figures.mistakes import disagreements, mistakes
from stkd_lightning.reporting.figures.mixtures import mixtures
from stkd_lightning.reporting.figures.outcomes import outcomes
from stkd_lightning.reporting.figures.pareto import pareto
from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.figures.precision_recall import precision_recall
from stkd_lightning.reporting.figures.similarity import similarity
from stkd_lightning.reporting.figures.style import figure_style, png, svg
from stkd_lightning.reporting.figures.sweep import sweep
from stkd_lightning.reporting.grouping import Setting

__all__ = ["Picture", "best_settings", "escape_missing", "figure_style", "pareto", "pictures", "png", "svg"]


MOST = 8  # settings in one figure


def pictures(settings: Sequence[Setting]) -> list[Picture]:
    """Draw all figures of one group for which there are data.

    Args:
        settings: settings of one group.
    """
    shown = best_settings(settings)
    ranked = sorted(shown, key=validation_score, reverse=True)
    methods = list(dict.fromkeys(s.method for s in settings))
    names = {name for s in settings[:1] for name in s.runs[0].summary.data.class_names}
    with figure_style([*names, *(s.label for s in settings)]):
        drawn = [
            curves(shown),
            losses(shown),
            terms(ranked),
            *(sweep([s for s in settings if s.method == method]) for method in methods),
            class_accuracy(shown),
            confusion(ranked[0]),
            mistakes(ranked[0]),
            outcomes(shown),
            disagreements(ranked[0]),
            divergence(shown),
            mixtures(shown),
            class_scores(shown, IOU),
            class_scores(shown, AVERAGE_PRECISION),
            precision_recall(shown),
            similarity(ranked),
            category_similarity(ranked),
            frame_similarity(ranked),
            calibration(shown),
            gallery(ranked[0]),
            mask_gallery(ranked[0]),
            clip_gallery(ranked[0]),
        ]
    return [picture for picture in drawn if picture]


def validation_score(setting: Setting) -> float:
    """Return the mean validation score, by which settings are chosen: higher is better; 0 where there is none."""
    scores = [r.score(r.summary.student.validation) for r in setting.runs if r.summary.student.validation]
    mean = fmean(scores) if scores else 0.0
    return mean if setting.runs[0].summary.score.higher else -mean


def best_settings(settings: Sequence[Setting], most: int = MOST) -> list[Setting]:
    """Return the settings to draw in one figure: the best of each method, then the next best.

    Args:
        settings: settings; their order is kept.
        most: largest number of settings, unless there are more methods.
    """
    if len(settings) <= most:
        return list(settings)
    ranked = sorted(settings, key=validation_score, reverse=True)
    methods = dict.fromkeys(s.method for s in settings)
    best = [next(s for s in ranked if s.method == method) for method in methods]
    best += [s for s in ranked if s not in best][: max(0, most - len(best))]
    return [s for s in settings if s in best]
