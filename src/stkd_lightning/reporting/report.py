"""Contents of a report of runs, and their form as Markdown and CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stkd_lightning.reporting.comparison import Row, compare, markdown, measured, score_names
from stkd_lightning.reporting.figures import Picture, best_settings, figure_style, pareto, pictures
from stkd_lightning.reporting.grouping import Setting, settings
from stkd_lightning.reporting.recommendation import Recommendation, recommend
from stkd_lightning.reporting.run import Group, Latency, Run
from stkd_lightning.reporting.statistics import Spread
from stkd_lightning.utilities import text


@dataclass(frozen=True)
class Section:
    """Results of one pair of networks on one data set; ``recommendation`` is ``None`` without validation images."""

    group: Group
    recommendation: Recommendation | None
    pictures: list[Picture]


@dataclass(frozen=True)
class Report:
    """Contents of a report.

    Attributes:
        rows: one row for each setting.
        reference: name of the method to compare with.
        latency: milliseconds for one image, by network.
        overview: one figure for each data set.
        sections: one section for each pair of networks on each data set.
        runs: all runs.
        repeated: number of runs that a later run of the same setting and seed replaces.
        unfinished: folders of unfinished runs.
        damaged: a line for each run that cannot be read.
    """

    rows: list[Row]
    reference: str
    latency: Latency
    overview: list[Picture]
    sections: list[Section]
    runs: Sequence[Run]
    repeated: int
    unfinished: Sequence[Path]
    damaged: Sequence[str]

    @property
    def recommendations(self) -> list[Recommendation]:
        """The recommendations of the sections that have one."""
        return [s.recommendation for s in self.sections if s.recommendation]


def make_report(
    runs: Sequence[Run],
    reference: str,
    latency: Latency,
    unfinished: Sequence[Path] = (),
    damaged: Sequence[str] = (),
) -> Report:
    """Compare runs and draw their figures.

    Args:
        runs: at least one finished run.
        reference: name of the method to compare with.
        latency: milliseconds for one image, by network; empty if not measured.
        unfinished: folders of unfinished runs.
        damaged: a line for each run that cannot be read.
    """
    every_setting = settings(runs)
    rows = compare(runs, reference)
    sections = []
    for group in dict.fromkeys(s.group for s in every_setting):
        members = [s for s in every_setting if s.group == group]
        member_rows = [r for s, r in zip(every_setting, rows, strict=True) if s.group == group]
        sections.append(Section(group, recommend(members, member_rows, reference), pictures(members)))
    data_sets = dict.fromkeys((s.group.data, s.group.digest) for s in every_setting)
    with figure_style(f"{s.group}{s.label}" for s in every_setting):
        overview = [pareto(_best_of_data(every_setting, name, digest), latency) for name, digest in data_sets]
    return Report(
        rows,
        reference,
        latency,
        overview,
        sections,
        list(runs),
        len(runs) - sum(len(s.runs) for s in every_setting),
        unfinished,
        damaged,
    )


def _best_of_data(every_setting: Sequence[Setting], name: str, digest: str) -> list[Setting]:
    """Return the best settings of each pair of networks on a data set."""
    groups: dict[Group, list[Setting]] = {}
    for setting in every_setting:
        if (setting.group.data, setting.group.digest) == (name, digest):
            groups.setdefault(setting.group, []).append(setting)
    return [setting for members in groups.values() for setting in best_settings(members)]


def report_markdown(report: Report) -> str:
    """Return a report's recommendations and table as Markdown."""
    answers = [
        f"**{text.markdown(str(best.group))}**: {text.markdown(' '.join([best.answer, *best.cautions]))} "
        f"Run folder: {text.markdown_code(str(best.run.folder))}\n"
        for best in report.recommendations
    ]
    damaged = "".join(f"- {text.markdown(line)}\n" for line in report.damaged)
    left_out = [f"Left out, because a file cannot be read:\n\n{damaged}"] * bool(damaged)
    note = note_of(report.rows, text.markdown(report.reference)) + "\n"
    return "\n".join(["# Distillation report\n", *answers, markdown(report.rows, report.reference), note, *left_out])


def note_of(rows: Sequence[Row], reference: str) -> str:
    """Return the sentences that explain the table.

    Args:
        rows: rows of the table.
        reference: name of the method to compare with, as the page's markup writes it.
    """
    scores = " or ".join(dict.fromkeys(row.score.label for row in rows))
    of_last = " Without validation images these are the students of the last epoch."
    which = "" if all(row.validation for row in rows) else of_last
    return (
        f"Scores are {score_names(rows)}: mean ± standard deviation over n seeds. Validation, test and - {reference} "
        f"are figures of the last students. The column selected is the test {scores} of the selected students.{which} "
        f"- {reference}: difference to {reference} on test images, seed by seed, from three seeds on with a 95 % "
        "confidence interval. Test images are used once."
    )


MEASURES_NOTE = (
    "Further columns are figures of selected students on test images. Pixels: share of right pixels, %. Image IoU: "
    "mean over images of the mean IoU of the classes in an image, %; variance: its variance, in units of 1. > 90 %: "
    "share of images with more than 90 % right pixels, %."
)


def report_csv(report: Report) -> str:
    """Return a report's table as CSV, one line for each setting: shares in [0, 1], milliseconds for one image."""
    content = io.StringIO()
    lines = [{name: _cell(value) for name, value in _line(row, report).items()} for row in report.rows]
    writer = csv.DictWriter(content, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return content.getvalue()


def _cell(value: object) -> object:
    return text.csv_cell(text.printable(value) if isinstance(value, str) else value)


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
        **{k: v for c in measured(report.rows) for k, v in _columns(c.metric, row.measures.get(c.metric)).items()},
        "reference": report.reference,
        "difference": row.difference.mean if row.difference else None,
        "difference_half_interval": half,
        "parameters": row.parameters,
        "flops": row.flops,
        "latency_ms": report.latency.get(row.network),
    }


def _columns(name: str, spread: Spread | None) -> dict[str, float | None]:
    return {name: spread.mean if spread else None, f"{name}_std": spread.std if spread else None}
