"""A report of runs: what its page, its Markdown and its table say, before it is written."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stkd_lightning.reporting.comparison import Row, compare, markdown
from stkd_lightning.reporting.figures import Picture, foremost, look, pareto, pictures
from stkd_lightning.reporting.grouping import Setting, settings
from stkd_lightning.reporting.recommendation import Verdict, verdict
from stkd_lightning.reporting.run import Group, Latency, Run
from stkd_lightning.reporting.statistics import Spread


@dataclass(frozen=True)
class Section:
    """What runs on one data set with one pair of networks show; ``verdict`` is ``None`` without validation images."""

    group: Group
    verdict: Verdict | None
    pictures: list[Picture]


@dataclass(frozen=True)
class Report:
    """Everything that is told of some runs.

    Attributes:
        rows: a row for each setting.
        reference: the method to which others are compared.
        latency: milliseconds for one image, by network.
        overview: pictures of whole data sets.
        sections: one for each pair of networks on each data set.
        runs: that it tells of.
        repeated: how many of them a later one of the same setting and seed stands for.
        unfinished: folders of runs that were begun.
    """

    rows: list[Row]
    reference: str
    latency: Latency
    overview: list[Picture]
    sections: list[Section]
    runs: Sequence[Run]
    repeated: int
    unfinished: Sequence[Path]

    @property
    def verdicts(self) -> list[Verdict]:
        """The answers, one for each section that has one."""
        return [s.verdict for s in self.sections if s.verdict]


def make_report(runs: Sequence[Run], reference: str, latency: Latency, unfinished: Sequence[Path] = ()) -> Report:
    """Draw and compare runs.

    Args:
        runs: at least one, finished.
        reference: the method to which others are compared.
        latency: milliseconds for one image, by network; empty where nothing was measured.
        unfinished: folders of other runs.
    """
    every = settings(runs)
    rows = compare(runs, reference)
    sections = []
    for group in dict.fromkeys(s.group for s in every):
        own = [(s, r) for s, r in zip(every, rows, strict=True) if s.group == group]
        answer = verdict([s for s, _ in own], [r for _, r in own], reference)
        sections.append(Section(group, answer, pictures([s for s, _ in own])))
    data = dict.fromkeys((s.group.data, s.group.digest) for s in every)
    with look():
        overview = [pareto(_of_data(every, one), latency) for one in data]
    return Report(
        rows,
        reference,
        latency,
        overview,
        sections,
        list(runs),
        len(runs) - sum(len(s.runs) for s in every),
        unfinished,
    )


def _of_data(every: Sequence[Setting], data: tuple[str, str]) -> list[Setting]:
    """Return the foremost settings of each pair of networks on a data set, by its name and digest."""
    own = [s for s in every if (s.group.data, s.group.digest) == data]
    return [s for group in dict.fromkeys(s.group for s in own) for s in foremost([s for s in own if s.group == group])]


def report_markdown(report: Report) -> str:
    """Return a report's answers and table as Markdown."""
    answers = [
        " ".join([f"**{one.group}**: {one.answer}", *one.doubts, f"Its folder: `{one.run.folder}`"]) + "\n"
        for one in report.verdicts
    ]
    table = markdown(report.rows, report.reference)
    return "\n".join(["# Distillation report\n", *answers, table, NOTE.format(reference=report.reference) + "\n"])


NOTE = (
    "Accuracy in %, mean ± standard deviation over n seeds: of the last student on validation images, of the last and "
    "of the selected student on test images; - {reference}: the last students' difference to {reference} on test "
    "images, seed by seed, with its 95 % confidence interval. Test images are read once."
)


def report_csv(report: Report) -> str:
    """Return a line for each setting: shares in [0, 1], milliseconds for an image."""
    text = io.StringIO()
    lines = [_line(row, report) for row in report.rows]
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _line(row: Row, report: Report) -> dict[str, object]:
    half = row.difference.half_interval if row.difference else None
    return {
        "data": row.group.data,
        "teacher": row.group.teacher,
        "student": row.group.student,
        "method": row.method,
        "options": " ".join(f"{name}={value}" for name, value in row.options.items()),
        "seeds": " ".join(map(str, row.seeds)),
        **_columns("validation", row.validation),
        **_columns("test_last", row.last),
        **_columns("test_selected", row.selected),
        **_columns("calibration_error", row.calibration),
        "reference": report.reference,
        "difference": row.difference.mean if row.difference else None,
        "difference_half_interval": half,
        "parameters": row.parameters,
        "flops": row.flops,
        "latency_ms": report.latency.get(row.network),
    }


def _columns(name: str, spread: Spread | None) -> dict[str, float | None]:
    return {name: spread.mean if spread else None, f"{name}_std": spread.std if spread else None}
