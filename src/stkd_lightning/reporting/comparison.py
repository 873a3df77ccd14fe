"""Comparison of runs: one row per setting, with means over seeds and differences seed by seed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from stkd_lightning.reporting.grouping import Setting, settings
from stkd_lightning.reporting.run import Group, Network, Run
from stkd_lightning.reporting.statistics import Spread
from stkd_lightning.tasks.base import Column, Score
from stkd_lightning.utilities import text

# Columns beside the score, for runs that have the metric.
MEASURES = (
    Column("pixels", "pixel_accuracy"),
    Column("image IoU", "image_quality"),
    Column("> 90 %", "high_precision"),
    Column("variance", "quality_variance", percent=False, digits=4),
)


@dataclass(frozen=True)
class Row:
    """The figures of one setting over its seeds; shares in [0, 1].

    Attributes:
        label: the method and the options that distinguish the setting.
        group: data and networks.
        method: name of the loss.
        options: options that distinguish it from other settings of the method.
        seeds: seeds in ascending order.
        score: the metric by which students are selected and compared.
        validation: validation score of the last student; ``None`` without validation images.
        last: test score of the last student.
        selected: test score of the student selected on validation images.
        calibration: expected calibration error of the selected student on test images.
        parameters: number of the student's parameters.
        flops: operations of the student for one image, two for each multiply-add.
        difference: ``last`` minus that of the reference, seed by seed; ``None`` without common seeds.
        measures: metrics of the selected student on test images that ``MEASURES`` names, as far as they are known.
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
    score: Score
    measures: dict[str, Spread]

    @property
    def network(self) -> Network:
        """The student, as the key of its latency."""
        return self.group.student, self.parameters, self.flops

    def text(self, score: Spread) -> str:
        """Return a score as text, in percent if it is a share."""
        return score.percent(self.score.factor)

    def difference_text(self) -> str:
        """Return the difference to the reference as text; empty without one."""
        return self.difference.points(self.score.factor) if self.difference else ""


def compare(runs: Iterable[Run], reference: str) -> list[Row]:
    """Compare runs, setting by setting.

    Args:
        runs: finished runs.
        reference: name of the method to compare with; only options of the methods may differ.

    Returns:
        A row for each setting, in the order of their first runs.
    """
    every_setting = settings(runs)
    return [_row(setting, setting.find_reference(every_setting, reference)) for setting in every_setting]


def _row(setting: Setting, reference: Setting | None) -> Row:
    students = [run.summary.student for run in setting.runs]
    validation = [run.score(s.validation) for run, s in zip(setting.runs, students, strict=True) if s.validation]
    selected = [s.test["selected"] for s in students]
    scores = [run.score(figures) for run, figures in zip(setting.runs, selected, strict=True)]
    errors = [figures["calibration_error"] for figures in selected if "calibration_error" in figures]
    score = setting.runs[0].summary.score
    known = [c.metric for c in MEASURES if c.metric != score.name and all(c.metric in figures for figures in selected)]
    baseline = {run.seed: run.test_score for run in reference.runs} if reference else {}
    differences = [run.test_score - baseline[run.seed] for run in setting.runs if run.seed in baseline]
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
        score=score,
        measures={name: Spread.of([figures[name] for figures in selected]) for name in known},
    )


def measured(rows: Sequence[Row]) -> list[Column]:
    """Return the columns beside the score that some rows have."""
    return [column for column in MEASURES if any(column.metric in row.measures for row in rows)]


def measure_text(row: Row, column: Column) -> str:
    """Return a cell of a column beside the score; empty where the metric is not known."""
    spread = row.measures.get(column.metric)
    return spread.percent(100 if column.percent else 1, column.digits) if spread else ""


def cells(row: Row) -> tuple[str, ...]:
    """Return a row's cells as text, in the order of ``headings``."""
    validation = row.text(row.validation) if row.validation else ""
    scores = validation, row.text(row.last), row.text(row.selected)
    return row.label, str(len(row.seeds)), *scores, row.difference_text()


def headings(reference: str) -> tuple[str, ...]:
    """Return the headings of the columns."""
    return "", "n", "validation", "test", "selected", f"- {reference} (95 %)"


def score_names(rows: Sequence[Row]) -> str:
    """Return names and units of the rows' scores, such as ``mIoU, %``."""
    return " or ".join(dict.fromkeys(row.score.title for row in rows))


def _lines(rows: Sequence[Row], reference: str) -> list[tuple[str, ...]]:
    """Return headings and cells; a first column names data and networks if they differ."""
    if len({row.group for row in rows}) < 2:
        return [headings(reference), *map(cells, rows)]
    return [("data and networks", *headings(reference)), *((str(row.group), *cells(row)) for row in rows)]


def table(rows: Sequence[Row], reference: str) -> Table:
    """Return a table for the terminal; shares in percent, mean and standard deviation over n seeds.

    The last column is the difference of the last students' test scores, seed by seed, with its 95 % confidence
    interval, from three seeds on.
    """
    students = "validation and test: last students; selected: selected students on test images"
    title = f"{score_names(rows)}, over n seeds; {students}"
    shown = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, title=title, title_justify="left")
    first, *others = _lines(rows, reference)
    for i, heading in enumerate(first):
        shown.add_column(heading, justify="left" if i < len(first) - 5 else "right", no_wrap=True)
    for line in others:
        shown.add_row(*line)
    return shown


def markdown(rows: Sequence[Row], reference: str) -> str:
    """Return the same table as Markdown."""
    first, *others = _lines(rows, reference)
    rule = ["---"] * (len(first) - 5) + ["---:"] * 5
    first, *others = (tuple(map(text.markdown, line)) for line in (first, *others))
    return "".join(f"| {' | '.join(line)} |\n" for line in (first, rule, *others))
