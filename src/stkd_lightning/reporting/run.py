"""Read finished runs from their folders."""

import csv
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from stkd_lightning.inference.about import name_of
from stkd_lightning.reporting.curves import LARGEST, Curves, read_curves
from stkd_lightning.reporting.diagnostics import Diagnostics
from stkd_lightning.reporting.diagnostics_file import FILE, D, DiagnosticsFile
from stkd_lightning.reporting.run_options import OWN_SEEDS, ROUNDING, SEEDS, flat, result_options
from stkd_lightning.reporting.segmentation_diagnostics import SegmentationDiagnostics
from stkd_lightning.reporting.summary import Figures, NetworkSummary, RunSummary
from stkd_lightning.reporting.tagging_diagnostics import TaggingDiagnostics
from stkd_lightning.utilities.errors import InputError, reason
from stkd_lightning.utilities.text import printable
from stkd_lightning.utilities.untrusted import read_json, read_yaml

SUMMARY, CONFIG, METRICS = "summary.json", "config.yaml", "metrics.csv"
NAME = 200  # characters of a name

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
        return _name(self.summary.loss)

    @property
    def data(self) -> str:
        """The data set's name."""
        return _name(str(self.summary.data.name))

    @cached_property
    def teacher(self) -> str:
        """The name of the teacher; without one, the name of the teacher in the settings."""
        network = self.config.get("teacher", {}).get("network", {})
        name = self.summary.teacher and self.summary.teacher.network
        return _name(str(name or name_of(network)))

    @property
    def student(self) -> str:
        """The student's name."""
        return _name(self.summary.student.network)

    @cached_property
    def group(self) -> "Group":
        """The data and networks of the run; only runs of one group are compared."""
        return Group(self.data, str(self.summary.data.digest or ""), self.teacher, self.student)

    @cached_property
    def options(self) -> dict[str, str]:
        """The options that change the result, as text by dotted name; without method, seed and rounding."""
        fixed = {o.partition("=")[0].lstrip("+") for o in self.summary.overrides} & OWN_SEEDS
        left_out = (SEEDS - fixed) | ROUNDING
        options = {k: _text(v) for k, v in result_options(self.config).items() if k not in left_out}
        of_teachers = flat({"teacher": self.config.get("teacher", {})})
        return options | {k: str(v) for k, v in of_teachers if k.endswith(".checkpoint") and v}

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
    def diagnostics(self) -> DiagnosticsFile | None:
        """The diagnostics of the student, of any kind; ``None`` if they cannot be read."""
        kinds = Diagnostics, SegmentationDiagnostics, TaggingDiagnostics
        return next((found for kind in kinds if (found := self.diagnostics_of(kind))), None)

    def diagnostics_of(self, kind: type[D]) -> D | None:
        """Return the diagnostics of the student if they are of a kind and can be read, else ``None``.

        They are large, so they are not cached.
        """
        try:
            found = kind.read(self.folder / FILE) if self.folder else None
        except InputError:
            return None
        return found if found and found.num_classes == len(self.summary.data.class_names) else None

    @cached_property
    def curves(self) -> Curves:
        """The curves of ``metrics.csv``."""
        path = self.folder and self.folder / METRICS
        return read_curves(path) if path and os.path.lexists(path) else Curves()


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


def _name(text: str) -> str:
    """Return a name as tables and figures show it."""
    return printable(text[:NAME])


def _check_figures(summary: RunSummary) -> None:
    """Refuse scores that cannot be compared or drawn.

    Raises:
        KeyError: a run has no score of its last or selected student, or of its teacher.
        ValueError: a score or a calibration error is not finite, or not a share where it must be one.
    """
    name = summary.score.name
    students = summary.student.test["last"], summary.student.test["selected"], summary.student.validation
    teacher = summary.teacher.test["last"] if summary.teacher and summary.teacher.test else None
    low, high = (0.0, 1.0) if summary.score.unit == "%" else (-LARGEST, LARGEST)
    for figures in filter(None, [*students, teacher]):
        if not low <= figures[name] <= high:
            raise ValueError(f"{name} must be in [{low:g}, {high:g}], not {figures[name]}")
        if not 0 <= figures.get("calibration_error", 0) <= 1:
            raise ValueError(f"calibration_error must be in [0, 1], not {figures['calibration_error']}")


def read_run(folder: Path) -> Run:
    """Read a finished run from its folder.

    Raises:
        InputError: a file is damaged; names the file.
    """
    path = folder / SUMMARY
    try:
        run = Run(RunSummary.from_plain(read_json(path)), {}, folder)
        _check_figures(run.summary)
        path = folder / CONFIG
        run = replace(run, config=read_yaml(path) if os.path.lexists(path) else {})
        hash(run.group), len(run.options), len(run.overrides)
        path = folder / METRICS
        len(run.curves.validation)
    except (ValueError, LookupError, TypeError, AttributeError, csv.Error) as error:  # InputError is a ValueError
        words = reason(error).removeprefix(f"{path}: ")
        raise InputError(f"{path}: damaged ({words})") from error
    return run


@dataclass(frozen=True)
class SearchResult:
    """Finished runs, the folders of unfinished runs, and a line for each run that cannot be read."""

    runs: list[Run]
    unfinished: list[Path]
    damaged: list[str]


def read_runs(folders: Iterable[Path]) -> SearchResult:
    """Read runs from their folders, each once; damaged and unfinished ones are listed."""
    result = SearchResult([], [], [])
    for folder in dict.fromkeys(folders):
        if os.path.lexists(folder / SUMMARY):
            try:
                result.runs.append(read_run(folder))
            except InputError as error:
                result.damaged.append(printable(str(error)))
        elif _is_folder(folder / "checkpoints"):
            result.unfinished.append(folder)
    return result


def run_folder(path: Path) -> Path:
    """Return the folder of the run that a file belongs to; a folder as it is."""
    if path.is_dir():
        return path
    return path.parent.parent if path.parent.name == "checkpoints" else path.parent


def search(folders: Iterable[Path]) -> SearchResult:
    """Read the runs in folders and at any depth below them, sorted by path, with numbers by their value."""
    return read_runs(path for folder in folders for path in _run_folders(folder))


def find_runs(folders: Iterable[Path]) -> SearchResult:
    """Return what ``search`` does.

    Raises:
        InputError: a folder does not exist, or there is no finished run that can be read.
    """
    folders = list(folders)
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"runs={folder}: no such folder")
    result = search(folders)
    if not result.runs:
        unfinished, damaged = len(result.unfinished), len(result.damaged)
        hint = f"; {unfinished} unfinished: continue with resume=auto" if unfinished else ""
        hint += f"; {damaged} cannot be read: {'; '.join(result.damaged[:3])}" if damaged else ""
        raise InputError(f"runs: no finished run (a folder with {SUMMARY}) in {', '.join(map(str, folders))}{hint}")
    return result


def _run_folders(folder: Path) -> list[Path]:
    """Return the folders with a configuration at any depth; links to folders are not followed, so that a loop ends."""
    found, waiting = [], [folder]
    while waiting:
        current = waiting.pop()
        with suppress(OSError), os.scandir(current) as entries:
            for entry in entries:
                if entry.name == CONFIG:
                    found.append(current)
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(current / entry.name)
    return sorted(found, key=_sort_key)


def _is_folder(path: Path) -> bool:
    with suppress(OSError):
        return path.is_dir()
    return False


def _sort_key(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in path.parts]
