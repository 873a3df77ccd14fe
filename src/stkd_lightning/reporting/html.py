"""Report as a single HTML file, which needs no other files and no network."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from stkd_lightning.reporting.comparison import Row, measure_text, measured
from stkd_lightning.reporting.figures import Picture, svg
from stkd_lightning.reporting.report import MEASURES_NOTE, Report, note_of
from stkd_lightning.utilities.text import printable


@dataclass(frozen=True)
class Cell:
    """A cell of the table: the text, and the key for sorting."""

    text: str
    key: float | str = ""


def page(report: Report) -> str:
    """Return a report as HTML."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"as_svg": _as_svg, "printable": printable}
    template = environment.from_string(Path(__file__).with_name("page.html").read_text())
    several = len({row.group for row in report.rows}) > 1
    return template.render(
        report=report,
        headings=_headings(report, several=several),
        lines=[_cells(row, report, several=several) for row in report.rows],
        note=" ".join([note_of(report.rows, report.reference), *[MEASURES_NOTE] * bool(measured(report.rows))]),
        machines=_machines(report),
        calibrated=_calibrated(report),
        made=datetime.now().strftime("%Y-%m-%d %H:%M"),
    )


def _as_svg(picture: Picture) -> Markup:
    """Return a figure as SVG; Matplotlib has escaped the text in it."""
    return Markup(svg(picture.figure))


def _headings(report: Report, *, several: bool) -> list[str]:
    return [
        "method",
        *["data and networks"] * several,
        "seeds",
        "validation",
        "test, last",
        "test, selected",
        f"- {report.reference} (95 %)",
        *["ECE"] * _calibrated(report),
        *[column.title for column in measured(report.rows)],
        "params",
        "MFLOPs",
        *["ms"] * bool(report.latency),
    ]


def _cells(row: Row, report: Report, *, several: bool) -> list[Cell]:
    difference = Cell(row.difference_text(), row.difference.mean if row.difference else "")
    error = Cell(f"{row.calibration.mean:.3f}", row.calibration.mean) if row.calibration else Cell("")
    ms = report.latency.get(row.network)
    return [
        Cell(row.label, row.label),
        *[Cell(str(row.group), str(row.group))] * several,
        Cell(str(len(row.seeds)), len(row.seeds)),
        *(
            Cell(row.text(score), score.mean) if score else Cell("")
            for score in (row.validation, row.last, row.selected)
        ),
        difference,
        *[error] * _calibrated(report),
        *(
            Cell(measure_text(row, c), m.mean if (m := row.measures.get(c.metric)) else "")
            for c in measured(report.rows)
        ),
        Cell(f"{row.parameters:,}", row.parameters),
        Cell(f"{row.flops / 1e6:,.1f}", row.flops),
        *([Cell(f"{ms:.2f}", ms) if ms else Cell("")] if report.latency else []),
    ]


def _calibrated(report: Report) -> bool:
    """Return whether the table has a column of calibration errors."""
    return any(row.calibration for row in report.rows)


def _machines(report: Report) -> list[str]:
    """Return a line for each combination of hardware and software versions of the runs."""
    lines: dict[str, None] = {}
    for run in report.runs:
        versions, hardware = run.summary.versions, run.summary.hardware
        gpus = hardware.get("gpus")
        devices = ", ".join(gpus) if isinstance(gpus, list) and gpus else str(hardware.get("cpu", ""))
        packages = ("stkd-lightning", "torch", "lightning")
        known = ", ".join(f"{name} {versions[name]}" for name in packages if versions.get(name))
        lines[printable(f"{devices}: {known}"[:1000])] = None
    return list(lines)
