"""Runs side by side: what differs between them, mean and standard deviation over seeds, differences seed by seed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from rich import box
from rich.table import Table

from stkd_lightning.reporting.summary import Summary

METHOD = "loss"  # the option whose value is the method
Setting = tuple[tuple[str, str], ...]  # (option, value) of the options that differ


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of n values; of one value none."""

    mean: float
    std: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarize at least one value."""
        return cls(mean(values), stdev(values) if len(values) > 1 else None, len(values))

    def percent(self) -> str:
        """Return ``12.34 ± 0.56`` of shares."""
        number = f"{100 * self.mean:.2f}"
        return number if self.std is None else f"{number} ± {100 * self.std:.2f}"

    @property
    def half_interval(self) -> float | None:
        """Half of the 95 % confidence interval of the mean, by Student's distribution."""
        if self.std is None:
            return None
        from scipy.stats import t  # a second of import, needed once

        return float(t.ppf(0.975, self.n - 1)) * self.std / self.n**0.5


@dataclass(frozen=True)
class Row:
    """One setting over its seeds; accuracies in [0, 1].

    Attributes:
        label: what distinguishes it.
        seeds: in order.
        validation: of the last student; ``None`` where nothing was held out.
        last: test accuracy of the last student.
        selected: of the one selected on validation.
        difference: of ``last`` to the reference's, seed by seed; ``None`` without common seeds.
    """

    label: str
    seeds: list[int]
    validation: Spread | None
    last: Spread
    selected: Spread
    difference: Spread | None


# Options that say how a run was started, not what it is; and the seed, over which rows are.
NO_SETTING = {
    "seed",
    "resume",
    "cache_dir",
    "checkpoint_minutes",
    "dataset.workers",
    "dataset.resident",
    "dataset.data_dir",
}


def compare(summaries: Iterable[Summary], reference: str) -> list[Row]:
    """Lay summaries side by side.

    Args:
        summaries: of runs, with the ``overrides`` that they were started with.
        reference: the method to which each other is compared, everything else being equal.

    Returns:
        A row for each setting, in the order of their first runs.
    """
    runs = [(dict(o.split("=", 1) for o in s["overrides"] if "=" in o), s) for s in summaries]
    names = dict.fromkeys(name for options, _ in runs for name in options if name not in NO_SETTING)
    differing = [n for n in names if len({options.get(n) for options, _ in runs}) > 1] or [METHOD]
    settings: dict[Setting, dict[int, Summary]] = {}
    for options, summary in runs:
        setting = tuple((n, options.get(n, str(summary["loss"]) if n == METHOD else "")) for n in differing)
        settings.setdefault(setting, {})[summary["seed"]] = summary
    return [
        _row(setting, seeds, settings.get(_referred(setting, reference), {})) for setting, seeds in settings.items()
    ]


def _referred(setting: Setting, reference: str) -> Setting:
    return tuple((name, reference if name == METHOD else value) for name, value in setting)


def _row(setting: Setting, runs: dict[int, Summary], reference: dict[int, Summary]) -> Row:
    seeds = sorted(runs)
    students = [runs[seed]["student"] for seed in seeds]
    validation = [s["validation"]["accuracy"] for s in students if s["validation"]]
    common = [seed for seed in seeds if seed in reference] if reference is not runs else []
    differences = [_accuracy(runs[seed]) - _accuracy(reference[seed]) for seed in common]
    values = [value for _, value in setting]
    return Row(
        label=values[0] if len(values) == 1 else ", ".join(f"{n}={v}" for n, v in setting),
        seeds=seeds,
        validation=Spread.of(validation) if validation else None,
        last=Spread.of([s["test"]["last"]["accuracy"] for s in students]),
        selected=Spread.of([s["test"]["selected"]["accuracy"] for s in students]),
        difference=Spread.of(differences) if differences else None,
    )


def _accuracy(summary: Summary) -> float:
    return summary["student"]["test"]["last"]["accuracy"]


def cells(row: Row) -> tuple[str, ...]:
    """Return a row's cells as text, in the order of ``headings``."""
    validation = row.validation.percent() if row.validation else ""
    difference = ""
    if row.difference:
        half = row.difference.half_interval
        difference = f"{100 * row.difference.mean:+.2f}" + ("" if half is None else f" ± {100 * half:.2f}")
    return row.label, str(len(row.seeds)), validation, row.last.percent(), row.selected.percent(), difference


def headings(reference: str) -> tuple[str, ...]:
    """Return what the columns are."""
    return "", "n", "validation", "test", "selected", f"- {reference} (95 %)"


def table(rows: Iterable[Row], reference: str) -> Table:
    """Lay rows out for a terminal; accuracies in percent, mean and standard deviation over n seeds.

    The last column is the difference of the test accuracies, seed by seed, with its 95 % confidence interval.
    """
    title = "accuracy, %, over n seeds; test images by the last and the selected student"
    shown = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, title=title, title_justify="left")
    for i, heading in enumerate(headings(reference)):
        shown.add_column(heading, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        shown.add_row(*cells(row))
    return shown


def markdown(rows: Iterable[Row], reference: str) -> str:
    """Lay rows out as a Markdown table, likewise."""
    names = headings(reference)
    lines = [names, ("---", *["---:"] * (len(names) - 1)), *map(cells, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
