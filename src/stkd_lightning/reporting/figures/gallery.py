"""Virtual samples and the classes that both networks predict for them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from stkd_lightning.reporting.diagnostics import Diagnostics
from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.figures.style import COLOURS, INK, new_figure
from stkd_lightning.reporting.grouping import Setting
from stkd_lightning.utilities.text import printable

CLASSES = 3  # number of top classes of each network


def gallery(setting: Setting) -> Picture | None:
    """Draw some pairs of images, their mixtures, and the top classes of both networks.

    Args:
        setting: setting of the student; its first seed is drawn.

    Returns:
        The figure; ``None`` without diagnostics of virtual samples.
    """
    diagnostics = setting.runs[0].diagnostics_of(Diagnostics)
    if diagnostics is None or not len(diagnostics.shown):
        return None
    names = [printable(name) for name in setting.runs[0].summary.data.class_names]
    rows = len(diagnostics.shown)
    figure = new_figure(0.3 + 0.95 * rows)
    axes = figure.subplots(rows, 4, squeeze=False, width_ratios=[1, 1, 1, 2.6])
    for row in range(rows):
        labels, weight = diagnostics.shown_labels[row], float(diagnostics.shown_weights[row])
        shares = (f"{100 * weight:.0f} %", f"{100 - 100 * weight:.0f} %")
        titles = [f"{shares[i]} {names[labels[i]][:12]}" for i in (0, 1)] + ["mixture"]
        for axis, image, title in zip(axes[row], diagnostics.shown[row], titles, strict=False):
            axis.imshow(image.transpose(1, 2, 0), interpolation="nearest")
            axis.set_title(title, fontsize=7, pad=2)
            axis.set_axis_off()
        _bars(axes[row, 3], diagnostics.teacher_shown[row], diagnostics.student_shown[row], names)
    axes[0, 3].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8, borderaxespad=0)
    caption = (
        f"Predictions of the teacher and the student ({setting.label}, seed {setting.runs[0].seed}) for mixtures: the "
        f"top {CLASSES} classes of each, with their probabilities at T = 1."
    )
    return Picture("gallery", "Virtual samples", caption, figure)


def _bars(axis: Axes, teacher: np.ndarray, student: np.ndarray, names: Sequence[str]) -> None:
    top = [*np.argsort(-teacher)[:CLASSES], *np.argsort(-student)[:CLASSES]]
    classes = sorted(set(map(int, top)), key=lambda c: -float(teacher[c]))
    positions = np.arange(len(classes))
    bars = (("teacher", teacher, INK, -0.2), ("student", student, COLOURS[0], 0.2))
    for label, values, colour, shift in bars:
        axis.barh(positions + shift, [100 * values[c] for c in classes], 0.38, color=colour, label=label)
    axis.set_yticks(positions, [names[c][:16] for c in classes], fontsize=7)
    axis.set_xlim(0, 100)
    axis.invert_yaxis()
    axis.tick_params(axis="x", labelsize=7, pad=1)
    axis.tick_params(axis="y", length=0)
