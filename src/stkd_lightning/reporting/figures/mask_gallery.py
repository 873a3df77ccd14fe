"""Images with their true classes, the classes that teacher and student predict, and the student's errors."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.figures.style import WIDTH, legend_below, new_figure
from stkd_lightning.reporting.grouping import Setting
from stkd_lightning.reporting.segmentation_diagnostics import GALLERY, SegmentationDiagnostics
from stkd_lightning.tasks.segmentation_metrics import IGNORED
from stkd_lightning.utilities.colours import class_colours
from stkd_lightning.utilities.text import printable, shortened

NAMED = 30  # largest number of classes in the legend
WRONG = (213, 94, 0)  # colour of wrong pixels
FADED = 0.35  # contrast of the image behind them
LEFT = 0.45  # inches beside the pictures, for the quality
ROW = 0.06  # inches between rows


def mask_gallery(setting: Setting) -> Picture | None:
    """Draw images of the lowest, of medium and of the highest quality, with masks and errors.

    Args:
        setting: setting of the student; its first seed is drawn.

    Returns:
        The figure; ``None`` without diagnostics of a segmentation student.
    """
    run = setting.runs[0]
    diagnostics = run.diagnostics_of(SegmentationDiagnostics)
    if diagnostics is None or not len(diagnostics.shown):
        return None
    caption = (
        f"Predictions of the student ({setting.label}, seed {run.seed}) for images that were not used to train it: two "
        "of the lowest, two of medium and two of the highest quality, which is the mean IoU over the classes in the "
        "truth of an image. Wrong pixels are orange; pixels without class are black."
    )
    return Picture("mask_gallery", "Masks", caption, draw_masks(diagnostics, run.summary.data.class_names))


def draw_masks(diagnostics: SegmentationDiagnostics, class_names: Sequence[str]) -> Figure:
    """Draw a row for each image: the image, its truth, the teacher's and the student's mask, and the errors.

    Args:
        diagnostics: measurements with at least one image in the gallery.
        class_names: names of the classes.
    """
    colours = np.concatenate([class_colours(len(class_names)), np.zeros((256 - len(class_names), 3), np.uint8)])
    heads = ["image", "truth", *["teacher"] * diagnostics.has_teacher, "student", "errors"]
    shapes = [height / width for height, width in diagnostics.shown_sizes]
    cell = (WIDTH - LEFT) / len(heads)
    entries = _entries(diagnostics, class_names, colours)
    figure = new_figure(0.3 + sum(cell * shape + ROW for shape in shapes), [label for label, _ in entries])
    axes = figure.subplots(len(shapes), len(heads), squeeze=False, height_ratios=shapes)
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    for row, (quality, words) in enumerate(zip(diagnostics.shown_quality, _words(len(shapes)), strict=True)):
        height, width = diagnostics.shown_sizes[row]
        image = diagnostics.shown[row].transpose(1, 2, 0)[:height, :width]
        masks = (
            diagnostics.shown_truth,
            *[diagnostics.teacher_shown] * diagnostics.has_teacher,
            diagnostics.student_shown,
        )
        truth, *others = (mask[row, :height, :width] for mask in masks)
        pictures = [image, *(colours[mask] for mask in (truth, *others)), _errors(image, truth, others[-1])]
        for axis, head, picture in zip(axes[row], heads, pictures, strict=True):
            axis.imshow(picture, interpolation="none")  # in SVG at its own resolution
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            if row == 0:
                axis.set_title(head, fontsize=8, pad=2)
        axes[row, 0].set_ylabel(f"{words}{100 * quality:.0f} %", fontsize=7, labelpad=2)
    legend_below(figure, [Patch(facecolor=colour, label=label) for label, colour in entries])
    return figure


def _words(rows: int) -> list[str]:
    """Return what is special about each image; nothing if all images are shown."""
    return (
        ["lowest\n", "lowest\n", "medium\n", "medium\n", "highest\n", "highest\n"] if rows == GALLERY else [""] * rows
    )


def _errors(image: np.ndarray, truth: np.ndarray, student: np.ndarray) -> np.ndarray:
    """Return a faded grey image with wrong pixels in one colour, and pixels without class in black."""
    gray = 255 - FADED * (255 - image.mean(2, keepdims=True))
    picture = np.repeat(gray, 3, axis=2).astype(np.uint8)
    picture[student != truth] = WRONG
    picture[truth == IGNORED] = 0
    return picture


def _entries(
    diagnostics: SegmentationDiagnostics, class_names: Sequence[str], colours: np.ndarray
) -> list[tuple[str, str]]:
    """Return label and colour of the classes in the masks, those of the most pixels if they are many."""
    masks = diagnostics.shown_truth, diagnostics.student_shown, diagnostics.teacher_shown
    counts = np.bincount(np.concatenate([mask.ravel().astype(int) for mask in masks]), minlength=256)[
        : len(class_names)
    ]
    shown = sorted(np.argsort(-counts, kind="stable")[: min(NAMED, int((counts > 0).sum()))])
    entries = [(shortened(printable(class_names[c]), 24), to_hex(colours[c] / 255)) for c in shown]
    left_out = int((counts > 0).sum()) - len(shown)
    return entries + [(f"and {left_out} more", "none")] * bool(left_out)
