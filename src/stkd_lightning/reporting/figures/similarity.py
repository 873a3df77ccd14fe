"""Class similarities of classifiers: the classes that a network confuses."""

from collections.abc import Sequence

from stkd_lightning.reporting.diagnostics import Diagnostics
from stkd_lightning.reporting.figures.matrices import CLASSES, matrices
from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.grouping import Setting


def similarity(settings: Sequence[Setting]) -> Picture | None:
    """Draw class-similarity matrices of the teacher and of students side by side.

    Args:
        settings: settings of one pair of networks, the best first; the first seed of each is drawn.

    Returns:
        The figure; ``None`` without diagnostics of students with a teacher.
    """
    measured = [(s, d) for s in settings if (d := s.runs[0].diagnostics_of(Diagnostics)) and d.has_teacher]
    measured = [(s, d) for s, d in measured if d.num_classes == measured[0][1].num_classes]
    if not measured or not 1 < measured[0][1].num_classes <= CLASSES:
        return None
    students = [(s.label, d.student_similarity) for s, d in measured]
    names = measured[0][0].runs[0].summary.data.class_names
    caption = (
        "Rows: mean distribution at T = 4 over the images of a class; the class itself is left out. The order puts "
        "classes that are similar for the teacher next to each other. r: rank correlation with the teacher's matrix."
    )
    figure = matrices(measured[0][1].teacher_similarity, students, names)
    return Picture("similarity", "Class similarities", caption, figure)
