"""Read finished runs from their folders."""

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

Network = tuple[str, int, int]  # name, parameters, FLOPs of one image; a method may add to both numbers
Latency = Mapping[Network, float]  # milliseconds for one image


def network_key(network: NetworkSummary) -> Network:
    """Return a network's key: its name and its cost."""
    return network.network, network.parameters, network.flops


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        summary: content of ``summary.json``.
        config: content of ``config.yaml``; empty if there is no such file.
        folder: folder of the run; ``None`` for a run without files.
    """

    summary: RunSummary
    config: dict[str, Any]
    folder: Path | None = None

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.summary.seed

    @property
    def method(self) -> str:
        """The name of the method."""
        return self.summary.loss

    @property
    def data(self) -> str:
        """The data set's name."""
        return str(self.summary.data.name)

    @cached_property
    def teacher(self) -> str:
        """The name of the teacher; without one, the name of the teacher in the settings."""
        network = self.config.get("teacher", {}).get("network", {})
        name = self.summary.teacher and self.summary.teacher.network
        return str(name or network.get("name") or network.get("_target_", "").rpartition(".")[2])

    @property
    def student(self) -> str:
        """The student's name."""
        return self.summary.student.network

    @cached_property
    def group(self) -> "Group":
        """The data and networks of the run; only runs of one group are compared."""
        return Group(self.data, str(self.summary.data.digest or ""), self.teacher, self.student)

    @cached_property
    def options(self) -> dict[str, str]:
        """The options that change the result, as text by dotted name; without method, seed and ``compile``."""
        options = {k: _text(v) for k, v in result_options(self.config).items() if k not in SEEDS and k != "compile"}
        checkpoint = self.config.get("teacher", {}).get("checkpoint")
        return options | ({"teacher.checkpoint": str(checkpoint)} if checkpoint else {})

    def score(self, figures: Figures) -> float:
        """Return the metric by which students are selected and compared, for example the accuracy."""
        return figures[self.summary.score.name]

    @property
    def test_score(self) -> float:
        """The last student's score on the test data."""
        return self.score(self.summary.student.test["last"])

    @cached_property
    def overrides(self) -> dict[str, str]:
        """The overrides of the command that started the run."""
        return dict(o.lstrip("+~").split("=", 1) for o in self.summary.overrides if "=" in o)

    @property
    def diagnostics(self) -> Diagnostics | None:
        """The diagnostics of the student; ``None`` if they cannot be read. They are large, so they are not cached."""
        try:
            return read_diagnostics(self.folder / FILE) if self.folder else None
        except InputError:
            return None

    def metrics(self) -> list[dict[str, float]]:
        """Read ``metrics.csv``: one dictionary for each row, without empty cells."""
        path = self.folder and self.folder / METRICS
        if path is None or not path.is_file():
            return []
        with path.open(newline="") as file:
            return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


@dataclass(frozen=True)
class Group:
    """The names of data, teacher and student, and the digest of the data, as two data sets may have the same name."""

    data: str
    digest: str
    teacher: str
    student: str

    def __str__(self) -> str:
        return f"{self.data}, {self.teacher} → {self.student}" if self.teacher else f"{self.data}, {self.student}"


def _text(value: Any) -> str:
    """Return an option's value as text; equal numbers give equal texts."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:.12g}" if number else str(value)


def read_run(folder: Path) -> Run:
    """Read a finished run from its folder.

    Raises:
        InputError: a file is damaged; names the file.
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
        raise InputError(f"runs: {path}: damaged ({error}); remove {folder} from runs") from error
    return run


@dataclass(frozen=True)
class SearchResult:
    """Finished runs, and the folders of unfinished runs."""

    runs: list[Run]
    unfinished: list[Path]


def find_runs(folders: Iterable[Path]) -> SearchResult:
    """Find runs in folders and at any depth below them, sorted by path, with numbers by their value.

    Raises:
        InputError: a folder does not exist, there is no finished run, or a file is damaged.
    """
    result = SearchResult([], [])
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"runs={folder}: no such folder")
        for path in sorted(folder.rglob(CONFIG), key=_sort_key):
            if (path.parent / SUMMARY).is_file():
                if path.parent not in [run.folder for run in result.runs]:
                    result.runs.append(read_run(path.parent))
            elif (path.parent / "checkpoints").is_dir() and path.parent not in result.unfinished:
                result.unfinished.append(path.parent)
    if not result.runs:
        unfinished = len(result.unfinished)
        hint = f"; {unfinished} unfinished: continue with resume=auto" if unfinished else ""
        raise InputError(f"runs: no finished run (a folder with {SUMMARY}) in {', '.join(map(str, folders))}{hint}")
    return result


def _sort_key(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in path.parts]
