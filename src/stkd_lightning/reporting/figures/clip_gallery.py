"""Spectrograms of clips with their tags and the student's scores over time."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.figures.style import INK, new_figure
from stkd_lightning.reporting.grouping import Setting
from stkd_lightning.reporting.tagging_diagnostics import GALLERY, TaggingDiagnostics
from stkd_lightning.utilities.text import printable, shortened

NAMED = 10  # tags beside a clip: those that are present, then those of the highest scores
ROW = 1.5  # inches


def clip_gallery(setting: Setting) -> Picture | None:
    """Draw clips of the largest, of medium and of the smallest error, with tags and scores.

    Args:
        setting: setting of the student; its first seed is drawn.

    Returns:
        The figure; ``None`` without diagnostics of a student that hears clips.
    """
    run = setting.runs[0]
    diagnostics = run.diagnostics_of(TaggingDiagnostics)
    if diagnostics is None or not len(diagnostics.shown):
        return None
    caption = (
        f"Clips that were not used to train the student ({setting.label}, seed {run.seed}): two of the largest, two of "
        "medium and two of the smallest error. Left: log-mel spectrograms, low frequencies below. Right: the student's "
        "probability of each tag over time; tags that are present are bold, the numbers are probabilities of the clip."
    )
    return Picture("clip_gallery", "Clips", caption, draw_clips(diagnostics, run.summary.data.class_names))


def draw_clips(diagnostics: TaggingDiagnostics, class_names: Sequence[str]) -> Figure:
    """Draw a row for each clip: its spectrogram, and the student's scores.

    Args:
        diagnostics: measurements with at least one spectrogram.
        class_names: names of the tags.
    """
    rows = len(diagnostics.shown)
    figure = new_figure(0.3 + ROW * rows)
    axes = figure.subplots(rows, 2, squeeze=False)
    for row in range(rows):
        _draw_spectrogram(axes[row, 0], diagnostics, row)
        _draw_scores(axes[row, 1], diagnostics, row, class_names)
    return figure


def _draw_spectrogram(axis: Axes, diagnostics: TaggingDiagnostics, row: int) -> None:
    seconds = float(diagnostics.shown_seconds[row])
    picture = diagnostics.shown[row]
    axis.imshow(
        picture, origin="lower", aspect="auto", extent=(0, seconds, 0, len(picture)), cmap="magma", interpolation="none"
    )
    axis.set_yticks([])
    axis.tick_params(labelsize=7)
    words = ("largest", "largest", "medium", "medium", "smallest", "smallest")
    if len(diagnostics.shown) == GALLERY:
        axis.set_ylabel(f"{words[row]} error", fontsize=7)
    if row == len(diagnostics.shown) - 1:
        axis.set_xlabel("seconds", fontsize=8)


def _draw_scores(axis: Axes, diagnostics: TaggingDiagnostics, row: int, class_names: Sequence[str]) -> None:
    scores, labels = diagnostics.student_shown[row], diagnostics.shown_labels[row]
    order = np.lexsort((-scores, labels != 1))[:NAMED]
    over_time = diagnostics.student_frames[row][order] if len(diagnostics.student_frames) else scores[order][:, None]
    seconds = float(diagnostics.shown_seconds[row])
    axis.imshow(
        over_time, vmin=0, vmax=1, aspect="auto", cmap="viridis", interpolation="none",
        extent=(0, seconds, len(order) - 0.5, -0.5),
    )  # fmt: skip
    names = [f"{shortened(printable(class_names[c]), 18)} {scores[c]:.2f}" for c in order]
    axis.set_yticks(range(len(order)), names, fontsize=6)
    for text, tag in zip(axis.get_yticklabels(), order, strict=True):
        text.set_fontweight("bold" if labels[tag] == 1 else "normal")
        text.set_color(INK)
    axis.tick_params(axis="x", labelsize=7)
    if row == len(diagnostics.shown) - 1:
        axis.set_xlabel("seconds", fontsize=8)
