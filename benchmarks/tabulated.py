"""Tables of accuracies as Markdown, generated from the result files of runs."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from stkd_lightning.reporting.comparison import Row, compare
from stkd_lightning.reporting.run import Run
from stkd_lightning.reporting.statistics import Spread
from stkd_lightning.reporting.summary import RunSummary
from stkd_lightning.utilities.errors import unknown

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "accuracy"
SCORES = {"miou": "mIoU", "micro_auprc": "micro-AUPRC"}  # words of metrics
ROUNDING = 0.002  # largest difference of one teacher's accuracy on two devices
Record = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Runs that are compared.

    Attributes:
        name: name of the table's file.
        title: title for people.
        references: rows that the others are compared with, seed by seed.
        seeds: seeds of each row.
        settings: options of all runs.
        parts: data sets or pairs of networks, each with ``words``, ``settings`` and optionally ``published``
            accuracies in percent.
        rows: options by row name, which has no comma; the rows of ``grid`` come first.
        grid: two options with their values; every combination is a row.
        validation_only: test accuracies are not kept.
        metrics: metrics on test images by their words, in place of the score on validation and test images.
        relative: three rows, for example IUSP, SP and CE: how far the first one's gain over the last exceeds the
            second one's, as a share of the latter.
        samples: what the samples are called.
        results: folder of the results of all tables.
    """

    name: str
    title: str
    references: list[str]
    seeds: list[int]
    settings: list[str]
    parts: dict[str, dict[str, Any]]
    rows: dict[str, list[str]]
    grid: dict[str, list[float]]
    validation_only: bool
    metrics: dict[str, str]
    relative: list[str]
    samples: str
    results: Path = RESULTS


def read_table(name: str) -> Table:
    """Read a table's definition.

    Raises:
        InputError: an unknown name.
    """
    path = FOLDER / "tables" / f"{name}.yaml"
    if not path.is_file():
        raise unknown("table", name, [p.stem for p in path.parent.glob("*.yaml")])
    return read_table_file(path)


def read_table_file(path: Path, results: Path = RESULTS) -> Table:
    """Read a table's definition from a file.

    Args:
        path: of the file, which has the table's name.
        results: folder of the results of all tables.
    """
    content = yaml.safe_load(path.read_text())
    grid = content.pop("grid", {})
    rows = _crossed(grid) | content.pop("rows", {})
    references = content.pop("reference") or []
    return Table(
        name=path.stem,
        rows=rows,
        grid=grid,
        references=[references] if isinstance(references, str) else references,
        validation_only=content.pop("validation_only", False),
        metrics=content.pop("metrics", {}),
        relative=content.pop("relative", []),
        samples=content.pop("samples", "images"),
        results=results,
        **content,
    )


def _crossed(grid: dict[str, list[float]]) -> dict[str, list[str]]:
    """Return the rows of a grid by name, one for each combination of values."""
    options = [[f"{option}={value}" for value in values] for option, values in grid.items()]
    return {" ".join(row): list(row) for row in product(*options)} if grid else {}


def record_file(table: Table, part: str, row: str, seed: int) -> Path:
    """Return the result file of a run."""
    slug = re.sub(r"[^a-z0-9.=]+", "_", row.lower()).strip("_")
    return table.results / table.name / part / f"{slug}-{seed}.json"


def settings(table: Table, part: str, row: str, seed: int) -> list[str]:
    """Return the options of a run, without its paths."""
    return [*table.settings, *table.parts[part]["settings"], *table.rows[row], f"seed={seed}"]


def record(table: Table, part: str, row: str, seed: int) -> Record | None:
    """Read a run's result file; return ``None`` if it is missing or was made with other settings."""
    path = record_file(table, part, row, seed)
    kept = json.loads(path.read_text()) if path.is_file() else None
    return kept if kept and kept["settings"] == settings(table, part, row, seed) else None


def records(table: Table, part: str) -> list[Record]:
    """Read the results of a part's finished runs, in the order of the table."""
    found = [record(table, part, row, seed) for row in table.rows for seed in table.seeds]
    return [r for r in found if r]


def apart(one: Record, other: Record) -> str:
    """Name what makes two runs of a part incomparable; return an empty string if nothing does.

    Teachers with equal settings differ if the number of threads or the hardware differs. One teacher's accuracy differs
    a little between devices, which round differently.
    """
    if one["data"]["digest"] != other["data"]["digest"]:
        return "other data"
    if "teacher" not in one or "teacher" not in other:  # a run without a teacher has none
        return ""
    first, second = one["teacher"], other["teacher"]
    same = first["test"] == second["test"]
    if "digest" in first and "digest" in second:  # files of old versions have none
        scores = [teacher["test"]["last"][score_name(one)] for teacher in (first, second)]
        same = first["digest"] == second["digest"] and abs(scores[0] - scores[1]) <= ROUNDING
    return "" if same else "another teacher"


def score_name(record: Record) -> str:
    """Return the metric that selects in a run, by its record or summary."""
    return str(record.get("score", {}).get("name", "accuracy"))


def elsewhere(wanted: list[str], *, tested: bool) -> Record | None:
    """Find a run with these settings in any table; with test accuracies if ``tested``."""
    for path in sorted(RESULTS.glob("*/*/*.json")):
        kept: Record = json.loads(path.read_text())
        if sorted(kept["settings"]) == sorted(wanted) and (not tested or "test" in kept["student"]):
            return kept
    return None


def markdown(table: Table) -> str:
    """Return a table as Markdown; rows without results say "not run"."""
    if table.validation_only and len(table.parts) > 1:
        return _beside(table)
    return "\n\n".join(_part(table, part) for part in table.parts)


def _beside(table: Table) -> str:
    """Return parts as columns: validation accuracy in percent, its mean ± std over seeds, and mean minutes per run."""
    found = {part: records(table, part) for part in table.parts}
    values = {
        part: {row: _over_seeds([r for r in own if r["row"] == row]) for row in {r["row"] for r in own}}
        for part, own in found.items()
    }
    head = ["", *(part["words"] for part in table.parts.values())]
    body = [[row, *(values[part].get(row, "not run") for part in table.parts)] for row in table.rows]
    cost = ["minutes per run", *(_minutes_a_run(own) if own else "not run" for own in found.values())]
    return _lines([head, ["---", *["---:"] * len(table.parts)], *body, cost])


def _over_seeds(own: Sequence[Record]) -> str:
    """Return the validation accuracy of a row in percent, and how many seeds it is of if there are several."""
    spread = Spread.of([_validation(r) / 100 for r in own])
    return spread.percent() + (f" ({len(own)})" if len(own) > 1 else "")


def _lines(cells: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _part(table: Table, part: str) -> str:
    found = records(table, part)
    heading = f"**{table.parts[part]['words']}**"
    if not found:
        return f"{heading}: not run; `python benchmarks/accuracy.py table={table.name} parts={part}`"
    published = table.parts[part].get("published", {})
    heading += f"{_teacher(table, found, published)}; {_minutes(found)}"
    if table.validation_only:
        return "\n\n".join(filter(None, [heading, _matrix(table, found), _plain(table, found)]))
    rows = {row.method: row for row in compare([_as_run(r) for r in found], "")}
    scores = ["validation", "test, last", "test, selected"]
    names = ["", "seeds", *(table.metrics or scores), *(f"difference to {r}" for r in table.references)]
    names += ["minutes per run", *["published"] * bool(published)]
    lines = [names, ["---", *["---:"] * (len(names) - 1)]]
    for name in table.rows:
        own = [r for r in found if r["row"] == name]
        if not own:
            lines.append([name, "not run", *[""] * (len(names) - 2)])
            continue
        done = str(len(table.seeds)) if len(own) == len(table.seeds) else f"{len(own)} of {len(table.seeds)}"
        figures = _metrics(table, own) if table.metrics else _scores(rows[name])
        differences = [_difference(own, found, reference) for reference in table.references]
        beside = [f"{published[name]:.2f}" if name in published else ""] * bool(published)
        lines.append([name, done, *figures, *differences, _minutes_a_run(own), *beside])
    return "\n\n".join(filter(None, [heading, _lines(lines), relative_gain(table, found)]))


def relative_gain(table: Table, found: Sequence[Record]) -> str:
    """Return ``(gain of one - gain of other) / gain of other`` in words; it needs a gain of the other.

    Gains are paired by seed. Where the 95 % interval of the other's gain holds 0, the share is not defined.
    """
    if not table.relative:
        return ""
    one, other, base = table.relative
    first, second = (Spread.of(_differences(found, row, base) or [math.nan]) for row in (one, other))
    words = f"({one}'s gain - {other}'s gain) / {other}'s gain over {base}"
    if second.half_interval is None:
        return f"{words}: not run"
    if not abs(second.mean) > second.half_interval:
        return f"{words}: not defined, since {other}'s gain is {second.points()} points"
    return f"{words}: {(first.mean - second.mean) / second.mean:+.1%}"


def _scores(row: Row) -> list[str]:
    return [row.validation.percent() if row.validation else "", row.last.percent(), row.selected.percent()]


def _metrics(table: Table, own: Sequence[Record]) -> list[str]:
    """Return the means of a row's metrics on test images after the last epoch: shares in percent, variances as such."""
    cells = []
    for name in table.metrics.values():
        spread = Spread.of([r["student"]["test"]["last"][name] for r in own])
        deviation = "" if spread.std is None else f" ± {spread.std:.4f}"
        cells.append(f"{spread.mean:.4f}{deviation}" if "variance" in name else spread.percent())
    return cells


def _difference(own: Sequence[Record], found: Sequence[Record], reference: str) -> str:
    """Return a row's test score after the last epoch less that of the reference, seed by seed, in points."""
    row = own[0]["row"]
    differences = [] if row == reference else _differences(found, row, reference)
    return Spread.of(differences).points() if differences else ""


def _differences(found: Sequence[Record], row: str, reference: str) -> list[float]:
    """Return a row's test scores after the last epoch less those of the reference, of the seeds that both have."""
    scores = {
        (r["row"], r["seed"]): float(r["student"]["test"]["last"][score_name(r)])
        for r in found
        if r["row"] in (row, reference)
    }
    seeds = [seed for name, seed in scores if name == row and (reference, seed) in scores]
    return [scores[row, seed] - scores[reference, seed] for seed in seeds]


def _as_run(record: Record) -> Run:
    """Return a record as a run for ``compare``, with the row as method and the part as networks."""
    summary = {k: v for k, v in record.items() if k != "teacher"} | {"loss": record["row"], "overrides": []}
    return Run(RunSummary.from_plain(summary), {"teacher": {"network": {"name": record["part"]}}})


def _teacher(table: Table, found: Sequence[Record], published: dict[str, float]) -> str:
    taught = next((r["teacher"] for r in found if "teacher" in r), None)
    if taught is None:
        return ""
    beside = f" (published {published['teacher']:.2f})" if "teacher" in published else ""
    name = score_name(next(r for r in found if "teacher" in r))
    words = "" if name == "accuracy" else f"{SCORES.get(name, name)} "
    return f"; teacher {words}{100 * taught['test']['last'][name]:.2f} % on test {table.samples}{beside}"


def _minutes(found: Sequence[Record]) -> str:
    hardware = found[0]["hardware"]
    device = (hardware["gpus"] or [f"{hardware['cpu']}, {hardware['threads']} threads"])[0]
    minutes = sum(r["seconds"] for r in found) / 60
    return f"{len(found)} runs, {minutes:.0f} minutes of student training on {device}"


def _minutes_a_run(own: Sequence[Record]) -> str:
    return f"{sum(r['seconds'] for r in own) / len(own) / 60:.1f}"


def _validation(record: Record) -> float:
    return 100 * float(record["student"]["validation"][score_name(record)])


def _matrix(table: Table, found: Sequence[Record]) -> str:
    """Return a grid of two options as Markdown; validation accuracy in percent."""
    if not table.grid:
        return ""
    (down, lines), (across, columns) = table.grid.items()
    values = {r["row"]: f"{_validation(r):.2f}" for r in found}
    head = [f"{down} \\ {across}", *map(str, columns)]
    body = [[str(i), *(values.get(f"{down}={i} {across}={j}", "not run") for j in columns)] for i in lines]
    return _lines([head, ["---:"] * len(head), *body])


def _plain(table: Table, found: Sequence[Record]) -> str:
    crossed = _crossed(table.grid)
    others = [r for r in found if r["row"] not in crossed]
    lines = [["other settings", "validation"], ["---", "---:"], *([r["row"], f"{_validation(r):.2f}"] for r in others)]
    return _lines(lines) if others else ""
