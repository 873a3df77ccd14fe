"""Figures of one student on all evaluated images."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from stkd_lightning.reporting.class_predictions import ClassPredictions
from stkd_lightning.reporting.classified import Classified
from stkd_lightning.reporting.diagnostics_file import DiagnosticsFile
from stkd_lightning.reporting.figures.calibration import draw_calibration
from stkd_lightning.reporting.figures.class_accuracy import ACCURACY, accuracy_lines
from stkd_lightning.reporting.figures.class_scores import AVERAGE_PRECISION, IOU, ClassScore, draw_class_scores
from stkd_lightning.reporting.figures.clip_gallery import draw_clips
from stkd_lightning.reporting.figures.confusion import draw_confusion
from stkd_lightning.reporting.figures.frame_similarity import draw_frame_similarity
from stkd_lightning.reporting.figures.mask_gallery import draw_masks
from stkd_lightning.reporting.figures.mistakes import draw_images
from stkd_lightning.reporting.figures.outcomes import draw_outcomes
from stkd_lightning.reporting.figures.precision_recall import draw_precision_recall
from stkd_lightning.reporting.segmentation_diagnostics import SegmentationDiagnostics
from stkd_lightning.reporting.tagging_diagnostics import TaggingDiagnostics
from stkd_lightning.tasks.calibration import binned, reliability
from stkd_lightning.tasks.segmentation_metrics import loggable


def class_figures(
    images: Classified, predictions: ClassPredictions, class_names: Sequence[str], split: str
) -> dict[str, Figure]:
    """Draw the figures of a classifier: calibration, accuracy of each class, confused classes, and wrong images.

    Args:
        images: all evaluated images.
        predictions: the same, with the images to show.
        class_names: in the order of the labels.
        split: name of the images' split.

    Returns:
        The figures by name; those of which there is nothing to draw are left out.
    """
    bins = [("student", [reliability(binned(images.student_share, images.is_right)).numpy()])]
    taught = reliability(binned(images.teacher_share, images.teacher == images.labels[: len(images.teacher)])).numpy()
    has_teacher, lines = len(images.teacher) > 0, accuracy_lines([("student", [predictions])], len(class_names))
    drawn = {
        "calibration": draw_calibration(bins, [taught] if has_teacher else []),
        "class_accuracy": draw_class_scores(lines, class_names, split, ACCURACY),
        "confusion": draw_confusion(predictions, class_names),
        "mistakes": draw_images(predictions.wrong, class_names) if len(predictions.wrong) else None,
        "outcomes": draw_outcomes([("student", [predictions])]) if has_teacher else None,
        "disagreements": draw_images(predictions.lost, class_names, taught=True) if len(predictions.lost) else None,
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def evaluation_figures(
    diagnostics: DiagnosticsFile, metrics: Mapping[str, float], class_names: Sequence[str], split: str
) -> dict[str, Figure]:
    """Draw the figures of an evaluation: masks and the IoU of each class, or those of tags.

    Args:
        diagnostics: of the student.
        metrics: of the evaluation.
        class_names: in the order of the labels.
        split: name of the images' split.

    Returns:
        The figures by name.
    """
    figures = {}
    if isinstance(diagnostics, SegmentationDiagnostics):
        figures["class_iou"] = _of_classes(metrics, class_names, split, IOU)
        if len(diagnostics.shown):
            figures["masks"] = draw_masks(diagnostics, class_names)
    if isinstance(diagnostics, TaggingDiagnostics):
        figures["class_ap"] = _of_classes(metrics, class_names, split, AVERAGE_PRECISION)
        figures["precision_recall"] = draw_precision_recall([("student", diagnostics.student_curve)])
        if diagnostics.student_similarity.size:
            figures["frame_similarity"] = draw_frame_similarity([("student", diagnostics.student_similarity)])
        if len(diagnostics.shown):
            figures["clips"] = draw_clips(diagnostics, class_names)
    return figures


def _of_classes(metrics: Mapping[str, float], class_names: Sequence[str], split: str, score: ClassScore) -> Figure:
    values = np.array([100 * metrics.get(f"{score.prefix}{loggable(name)}", np.nan) for name in class_names])
    return draw_class_scores([("student", values)], class_names, split, score)
