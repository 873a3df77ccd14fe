"""Figures of one student, without its teacher."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from stkd_lightning.reporting.diagnostics import Diagnostics
from stkd_lightning.reporting.diagnostics_file import DiagnosticsFile
from stkd_lightning.reporting.figures.calibration import draw_calibration
from stkd_lightning.reporting.figures.class_iou import draw_class_iou
from stkd_lightning.reporting.figures.mask_gallery import draw_masks
from stkd_lightning.reporting.segmentation_diagnostics import SegmentationDiagnostics
from stkd_lightning.tasks.segmentation_metrics import CLASS_IOU, loggable


def evaluation_figures(
    diagnostics: DiagnosticsFile, metrics: Mapping[str, float], class_names: Sequence[str], split: str
) -> dict[str, Figure]:
    """Draw the figures of an evaluation: calibration, or masks and the IoU of each class.

    Args:
        diagnostics: of the student.
        metrics: of the evaluation.
        class_names: in the order of the labels.
        split: name of the images' split.

    Returns:
        The figures by name.
    """
    if isinstance(diagnostics, Diagnostics):
        return {"calibration": draw_calibration([("student", [diagnostics])])}
    figures = {}
    if isinstance(diagnostics, SegmentationDiagnostics):
        iou = np.array([100 * metrics.get(f"{CLASS_IOU}{loggable(name)}", np.nan) for name in class_names])
        figures["class_iou"] = draw_class_iou([("student", iou)], class_names, split)
        if len(diagnostics.shown):
            figures["masks"] = draw_masks(diagnostics, class_names)
    return figures
