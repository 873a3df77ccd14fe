"""Finished runs, read from their folders."""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from stkd_lightning.reporting.diagnostics import FILE, Diagnostics, read_diagnostics
from stkd_lightning.reporting.run_options import SEEDS, result_options
from stkd_lightning.reporting.summary import Figures, NetworkSummary, RunSummary
from stkd_lightning.utilities.errors import InputError

SUMMARY, CONFIG, METRICS = "summary.json", "config.yaml", "metrics.csv"

Network = tuple[str, int, int]  # name, parameters, and operations for an image; a method may add some of both
Latency = Mapping[Network, float]  # milliseconds for one image


def network_key(network: NetworkSummary) -> Network:
    """Return the name and the cost of a network."""
    return network.network, network.parameters, network.flops


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        summary: its ``summary.json``.
        config: its ``config.yaml``; empty where that is missing.
        folder: that it lies in; ``None`` without one.
    """

    summary: RunSummary
    config: dict[str, Any]
    folder: Path | None = None

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.summary.seed

    @property
    def method(self) -> str:
        """The name of its loss."""
        return self.summary.loss

    @property
    def data(self) -> str:
        """The data set's name."""
        return str(self.summary.data.name)

    @cached_property
    def teacher(self) -> str:
        """The name of the teacher that it had, or would have had."""
        network = self.config.get("teacher", {}).get("network", {})
        seen = self.summary.teacher and self.summary.teacher.network
        return str(seen or network.get("name") or network.get("_target_", "").rpartition(".")[2])

    @property
    def student(self) -> str:
        """The student's name."""
        return self.summary.student.network

    @cached_property
    def group(self) -> "Group":
        """What runs have in common that are compared with each other."""
        return Group(self.data, str(self.summary.data.digest or ""), self.teacher, self.student)

    @cached_property
    def options(self) -> dict[str, str]:
        """What shapes its result beside method and seed, but for rounding; by dotted name, as text."""
        options = {k: _text(v) for k, v in result_options(self.config).items() if k not in SEEDS and k != "compile"}
        checkpoint = self.config.get("teacher", {}).get("checkpoint")
        return options | ({"teacher.checkpoint": str(checkpoint)} if checkpoint else {})

    def score(self, figures: Figures) -> float:
        """Return the figure that students are selected and compared by, for example the accuracy."""
        return figures[self.summary.score.name]

    @property
    def test_score(self) -> float:
        """The last student's score on the test data."""
        return self.score(self.summary.student.test["last"])

    @cached_property
    def overrides(self) -> dict[str, str]:
        """The options it was started with."""
        return dict(o.lstrip("+~").split("=", 1) for o in self.summary.overrides if "=" in o)

    @property
    def diagnostics(self) -> Diagnostics | None:
        """What was seen of its student, if that was written and can be read; read anew each time, since it is large."""
        try:
            return read_diagnostics(self.folder / FILE) if self.folder else None
        except InputError:
            return None

    def metrics(self) -> list[dict[str, float]]:
        """Read its ``metrics.csv``: a row for each time that something was logged, without empty cells."""
        path = self.folder and self.folder / METRICS
        if path is None or not path.is_file():
            return []
        with path.open(newline="") as file:
            return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


@dataclass(frozen=True)
class Group:
    """Data, teacher and student, by name; the data also by digest, since two folders may have one name."""

    data: str
    digest: str
    teacher: str
    student: str

    def __str__(self) -> str:
        return f"{self.data}, {self.teacher} → {self.student}" if self.teacher else f"{self.data}, {self.student}"


def _text(value: Any) -> str:
    """Return an option's value so that equal numbers are equal texts."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:.12g}" if number else str(value)


def read_run(folder: Path) -> Run:
    """Read a finished run's folder.

    Raises:
        InputError: a file that is damaged; names it.
    """
    path = folder / SUMMARY
    try:
        run = Run(RunSummary.from_plain(json.loads(path.read_text())), {}, folder)
        hash((run.group, run.test_score, *run.overrides))
        path = folder / CONFIG
        run = replace(run, config=yaml.safe_load(path.read_text()) if path.is_file() else {})
        hash(run.group), len(run.options)
        path = folder / METRICS
        run.metrics()
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError, csv.Error) as error:
        raise InputError(f"runs: {path} is not what a finished run writes ({error}); leave {folder} out") from error
    return run


@dataclass(frozen=True)
class Found:
    """What lies below some folders: finished runs, and the folders of others that were begun."""

    runs: list[Run]
    unfinished: list[Path]


def find_runs(folders: Iterable[Path]) -> Found:
    """Find runs in folders and at any depth below them, in the order of their names, numbers by their value.

    Raises:
        InputError: a folder that is not there, none with a finished run, or a damaged file.
    """
    found = Found([], [])
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"runs: {folder}: no such folder")
        for path in sorted(folder.rglob(CONFIG), key=_place):
            if (path.parent / SUMMARY).is_file():
                if path.parent not in [run.folder for run in found.runs]:
                    found.runs.append(read_run(path.parent))
            elif (path.parent / "checkpoints").is_dir() and path.parent not in found.unfinished:
                found.unfinished.append(path.parent)
    if not found.runs:
        begun = f"; {len(found.unfinished)} are not finished: resume=auto goes on with them" * bool(found.unfinished)
        raise InputError(f"runs: no finished run (a folder with {SUMMARY}) in {', '.join(map(str, folders))}{begun}")
    return found


def _place(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in path.parts]
