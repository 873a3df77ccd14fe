"""Results of single classes and images of a classifier: on the terminal and as tables."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich import box
from rich.table import Table

from stkd_lightning.reporting.class_counts import ClassCounts, Outcomes, confused_pairs, confusion_matrix
from stkd_lightning.reporting.classified import Classified
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.text import csv_cell

SHOWN = 5  # classes on the terminal
MATRIX = 2048  # largest number of classes of a table with a column for each


def print_classes(images: Classified, class_names: Sequence[str]) -> None:
    """Print the classes of the lowest accuracy, the classes without images, and the outcomes beside a teacher."""
    labels, student = images.labels.numpy(), images.student.numpy()
    counts = ClassCounts.of(labels, student, len(class_names))
    if images.is_right.all():
        print_rank_zero("no image is classified wrong")
    else:
        print_rank_zero(_lowest(counts, confused_pairs(labels, student, len(class_names)), class_names))
    if empty := [name for name, number in zip(class_names, counts.images, strict=True) if not number]:
        more = f" and {len(empty) - SHOWN} more" if len(empty) > SHOWN else ""
        print_rank_zero(f"no image of class {', '.join(empty[:SHOWN])}{more}")
    if len(images.teacher):
        print_rank_zero(f"student and teacher: {Outcomes.of(labels, student, images.teacher.numpy()).text}")


def _lowest(counts: ClassCounts, pairs: Iterable[tuple[int, int, int]], class_names: Sequence[str]) -> Table:
    """Return the table of the classes of the lowest accuracy, each with the class it is most often taken for."""
    known = int((counts.images > 0).sum())
    title = f"the {SHOWN} classes of the lowest accuracy, of {known}" if known > SHOWN else "accuracy of each class"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("class", overflow="fold")
    for head in ("accuracy, %", "images"):
        table.add_column(head, justify="right")
    table.add_column("most often taken for", overflow="fold")
    first: dict[int, str] = {}
    for label, taken_for, number in pairs:
        first.setdefault(label, f"{class_names[taken_for]} ({number:,})")
    for c in counts.lowest(SHOWN):
        row = class_names[c], f"{100 * counts.accuracy[c]:.2f}", f"{counts.images[c]:,}", first.get(c, "")
        table.add_row(*row)
    return table


def class_results(images: Classified, class_names: Sequence[str]) -> dict[str, Any]:
    """Return the counts as plain containers: ``null`` where a share is not defined.

    The accuracy of a class is also its recall. The pairs are the confusion matrix without its diagonal and its zeros.
    """
    labels, student = images.labels.numpy(), images.student.numpy()
    pairs = confused_pairs(labels, student, len(class_names))
    results: dict[str, Any] = {
        "classes": _classes(images, class_names),
        "confused": [{"class": class_names[a], "predicted": class_names[b], "images": n} for a, b, n in pairs],
    }
    if len(images.teacher):
        results["outcomes"] = Outcomes.of(labels, student, images.teacher.numpy())._asdict()
    return results


def class_tables(
    images: Classified, class_names: Sequence[str], file_name: Callable[[int], str]
) -> dict[str, list[list[Any]]]:
    """Return the tables of an evaluation with their headings, by the name of the file.

    Args:
        images: of the evaluation.
        class_names: in the order of the labels.
        file_name: from an image's position in its split to the name of its file, or ``""``.
    """
    classes = _classes(images, class_names)
    tables = {"classes.csv": [list(classes[0]), *(["" if v is None else v for v in row.values()] for row in classes)]}
    if len(class_names) <= MATRIX:
        matrix = confusion_matrix(images.labels.numpy(), images.student.numpy(), len(class_names)).tolist()
        rows = [[name, *row] for name, row in zip(class_names, matrix, strict=True)]
        tables["confusion.csv"] = [["class \\ predicted", *class_names], *rows]
    return tables | {"mistakes.csv": _mistakes(images, class_names, file_name)}


def _classes(images: Classified, class_names: Sequence[str]) -> list[dict[str, Any]]:
    labels = images.labels.numpy()
    counts = ClassCounts.of(labels, images.student.numpy(), len(class_names))
    columns = {
        "images": counts.images,
        "correct": counts.correct,
        "accuracy": counts.accuracy,
        "predicted": counts.predicted,
        "precision": counts.precision,
    }
    if len(images.teacher):
        columns["teacher_accuracy"] = ClassCounts.of(labels, images.teacher.numpy(), len(class_names)).accuracy
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        {"class": name} | {k: _defined(v) for k, v in zip(columns, row, strict=True)}
        for name, row in zip(class_names, rows, strict=True)
    ]


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value


def _mistakes(images: Classified, class_names: Sequence[str], file_name: Callable[[int], str]) -> list[list[Any]]:
    """Return a row for each wrong image, those of the most probable wrong class first."""
    taught = len(images.teacher) > 0
    more = ["teacher", "teacher_probability", "divergence"] if taught else []
    table: list[list[Any]] = [["image", "file", "class", "predicted", "probability", *more]]
    for place in images.most_wrong().tolist():
        index, label, first, share, *others = (part[place].item() for part in images if len(part))
        row = [index, file_name(int(index)), class_names[int(label)], class_names[int(first)], f"{share:.6f}"]
        if taught:
            row += [class_names[int(others[0])], f"{others[1]:.6f}", f"{others[2]:.6f}"]
        table.append(row)
    return table


def csv_bytes(table: Iterable[Sequence[Any]]) -> bytes:
    """Return a table as CSV, in which a name that a spreadsheet would compute begins with an apostrophe."""
    content = io.StringIO()
    csv.writer(content, lineterminator="\n").writerows([csv_cell(cell) for cell in row] for row in table)
    return content.getvalue().encode("utf-8", "surrogateescape")
