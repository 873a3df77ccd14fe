"""Runs side by side: what differs between them, mean and standard deviation over seeds, differences seed by seed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from stkd_lightning.reporting.grouping import Setting, settings
from stkd_lightning.reporting.run import Group, Network, Run
from stkd_lightning.reporting.statistics import Spread


@dataclass(frozen=True)
class Row:
    """One setting over its seeds; accuracies in [0, 1].

    Attributes:
        label: the method and what distinguishes the setting.
        group: data and networks.
        method: name of the loss.
        options: what distinguishes it from other settings of the method.
        seeds: in order.
        validation: of the last student; ``None`` where nothing was held out.
        last: test accuracy of the last student.
        selected: of the one selected on validation.
        calibration: expected calibration error of the selected student on test images.
        parameters: of the student.
        flops: of the student for one image, two for each multiply-add.
        difference: of ``last`` to the reference's, seed by seed; ``None`` without common seeds.
    """

    label: str
    group: Group
    method: str
    options: dict[str, str]
    seeds: list[int]
    validation: Spread | None
    last: Spread
    selected: Spread
    calibration: Spread | None
    parameters: int
    flops: int
    difference: Spread | None

    @property
    def network(self) -> Network:
        """The student, as latencies know it."""
        return self.group.student, self.parameters, self.flops


def compare(runs: Iterable[Run], reference: str) -> list[Row]:
    """Lay runs side by side.

    Args:
        runs: finished.
        reference: the method to which each other is compared, everything but the methods' own options being equal.

    Returns:
        A row for each setting, in the order of their first runs.
    """
    found = settings(runs)
    return [_row(setting, setting.referred(found, reference)) for setting in found]


def _row(setting: Setting, reference: Setting | None) -> Row:
    students = [run.summary.student for run in setting.runs]
    validation = [run.score(s.validation) for run, s in zip(setting.runs, students, strict=True) if s.validation]
    selected = [s.test["selected"] for s in students]
    scores = [run.score(figures) for run, figures in zip(setting.runs, selected, strict=True)]
    errors = [figures["calibration_error"] for figures in selected if "calibration_error" in figures]
    others = {run.seed: run.test_score for run in reference.runs} if reference else {}
    differences = [run.test_score - others[run.seed] for run in setting.runs if run.seed in others]
    return Row(
        label=setting.label,
        group=setting.group,
        method=setting.method,
        options=setting.options,
        seeds=[run.seed for run in setting.runs],
        validation=Spread.of(validation) if validation else None,
        last=Spread.of([run.test_score for run in setting.runs]),
        selected=Spread.of(scores),
        calibration=Spread.of(errors) if errors else None,
        parameters=students[0].parameters,
        flops=students[0].flops,
        difference=Spread.of(differences) if differences else None,
    )


def cells(row: Row) -> tuple[str, ...]:
    """Return a row's cells as text, in the order of ``headings``."""
    validation = row.validation.percent() if row.validation else ""
    difference = row.difference.points() if row.difference else ""
    return row.label, str(len(row.seeds)), validation, row.last.percent(), row.selected.percent(), difference


def headings(reference: str) -> tuple[str, ...]:
    """Return what the columns are."""
    return "", "n", "validation", "test", "selected", f"- {reference} (95 %)"


def _laid_out(rows: Sequence[Row], reference: str) -> list[tuple[str, ...]]:
    """Return headings and cells; data and networks come first where they differ."""
    if len({row.group for row in rows}) < 2:
        return [headings(reference), *map(cells, rows)]
    return [("data and networks", *headings(reference)), *((str(row.group), *cells(row)) for row in rows)]


def table(rows: Sequence[Row], reference: str) -> Table:
    """Lay rows out for a terminal; accuracies in percent, mean and standard deviation over n seeds.

    The last column is the difference of the test accuracies, seed by seed, with its 95 % confidence interval.
    """
    title = "accuracy, %, over n seeds; test images by the last and the selected student"
    shown = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, title=title, title_justify="left")
    first, *others = _laid_out(rows, reference)
    for i, heading in enumerate(first):
        shown.add_column(heading, justify="left" if i < len(first) - 5 else "right", no_wrap=True)
    for line in others:
        shown.add_row(*line)
    return shown


def markdown(rows: Sequence[Row], reference: str) -> str:
    """Lay rows out as a Markdown table, likewise."""
    first, *others = _laid_out(rows, reference)
    rule = ["---"] * (len(first) - 5) + ["---:"] * 5
    return "".join(f"| {' | '.join(line)} |\n" for line in (first, rule, *others))
