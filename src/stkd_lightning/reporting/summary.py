"""Summary of a finished run: ``summary.json`` and the table on the terminal."""

import dataclasses
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Table

from stkd_lightning.data.description import DataDescription
from stkd_lightning.tasks.base import Score, Task
from stkd_lightning.utilities.plain import Count, checked

Figures = dict[str, float]


@dataclass(frozen=True)
class NetworkSummary:
    """A network of a run and its metrics.

    Attributes:
        network: name of the network.
        parameters: number of parameters.
        flops: floating-point operations for one input.
        test: metrics on the test data: of the ``last`` weights and, for a student, of the ``selected`` weights.
        validation: for a student: metrics of the last weights on the validation data; empty without such data.
        selected_epoch: for a student: epoch of the selected weights, counted from 0.
        source: for a teacher: description of the source of its weights.
        digest: for a teacher: digest of its weights.
        key: for a baseline and a front: its cache key.
    """

    network: str
    parameters: Count
    flops: Count
    test: dict[str, Figures]
    validation: Figures | None = None
    selected_epoch: Count | None = None
    source: str | None = None
    digest: str | None = None
    key: str | None = None

    @property
    def selected_test(self) -> Figures:
        """Metrics of the selected weights on the test data; of the last weights where none were selected."""
        return self.test.get("selected", self.test.get("last", {}))

    def to_plain(self) -> dict[str, Any]:
        """Return plain containers, without fields that are ``None``."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> "NetworkSummary":
        """Read the result of ``to_plain``, also from older versions.

        Raises:
            InputError: the content has another form; names the field.
        """
        return checked(cls, content, {"parameters": 0, "flops": 0})


@dataclass(frozen=True)
class RunSummary:
    """The content of a finished run's ``summary.json``.

    Attributes:
        seed: seed of the run.
        loss: name of the method.
        overrides: overrides of the command.
        data: description of the training data.
        student: the distilled network.
        images_per_second: speed of training.
        seconds: duration of training, without validation.
        versions: versions of Python and packages.
        hardware: processors of the machine.
        teacher: the teacher; ``None`` if the run had none.
        teacher_checkpoint: file of the teacher's weights; ``None`` for a network that is built with them.
        baseline: the student trained without a teacher; ``None`` if the run had none.
        front: the student's front after the first stage; ``None`` if the run had none.
        score: the metric by which students are selected.
        images: number of ``validation`` and ``test`` images; empty in files of old versions.
    """

    seed: Count
    loss: str
    overrides: tuple[str, ...]
    data: DataDescription
    student: NetworkSummary
    images_per_second: float = 0.0
    seconds: float = 0.0
    versions: dict[str, str | None] = dataclasses.field(default_factory=dict)
    hardware: dict[str, str | int | list[str]] = dataclasses.field(default_factory=dict)
    teacher: NetworkSummary | None = None
    teacher_checkpoint: str | None = None
    baseline: NetworkSummary | None = None
    front: NetworkSummary | None = None
    score: Score = dataclasses.field(default_factory=Score)
    images: dict[str, Count] = dataclasses.field(default_factory=dict)

    @property
    def result(self) -> float:
        """The last student's score on validation data, or on test data if there are none; sweepers optimize it."""
        return (self.student.validation or self.student.test["last"])[self.score.name]

    @property
    def networks(self) -> dict[str, NetworkSummary]:
        """The networks of the run by their labels in tables: ``teacher``, ``alone`` and the method's name."""
        networks = {"teacher": self.teacher, "alone": self.baseline, self.loss: self.student}
        return {label: network for label, network in networks.items() if network is not None}

    def to_plain(self) -> dict[str, Any]:
        """Return plain containers for ``summary.json``; the score is written only if it is not the accuracy."""
        names = ("seed", "loss", "images_per_second", "seconds", "versions", "hardware")
        plain = {name: getattr(self, name) for name in names}
        plain |= {"overrides": list(self.overrides), "data": self.data.to_plain(), "student": self.student.to_plain()}
        if self.teacher is not None:
            plain |= {"teacher": self.teacher.to_plain(), "teacher_checkpoint": self.teacher_checkpoint}
        if self.baseline is not None:
            plain["baseline"] = self.baseline.to_plain()
        if self.front is not None:
            plain["front"] = self.front.to_plain()
        if self.images:
            plain["images"] = self.images
        if self.score != Score():
            plain["score"] = dataclasses.asdict(self.score)
        order = [field.name for field in dataclasses.fields(self)]
        return dict(sorted(plain.items(), key=lambda item: order.index(item[0])))

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> "RunSummary":
        """Read the result of ``to_plain``, also from older versions.

        Raises:
            InputError: the content has another form; names the field.
        """
        return checked(cls, content)


def environment() -> dict[str, Any]:
    """Return the versions and the hardware, on which results depend."""
    names = ("stkd-lightning", "torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "numpy")
    cuda = torch.cuda.is_available()
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in names}},
        "hardware": {
            "cpu": _cpu(),
            "threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
        },
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # not installed, for example run from a clone
        return None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def table(summary: RunSummary, task: Task) -> Table:
    """Return the table of teacher, baseline and student with their test metrics in the task's columns."""
    students = "last and selected student" if summary.student.validation else "student of the last epoch"
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title=f"{summary.data.name}, test {summary.data.noun}, % ({students}), seed {summary.seed}",
        title_justify="left",
    )
    for title in ("", "network"):
        table.add_column(title, overflow="fold", min_width=7)
    for title in ("params", "MFLOPs", *(column.title for column in task.columns)):
        table.add_column(title, justify="right", no_wrap=True)  # the name gives way on a narrow terminal
    for label, network in summary.networks.items():
        mega = network.flops / 1e6
        cost = f"{network.parameters:,}", f"{mega:,.1f}" if mega < 1000 else f"{mega:,.0f}"
        table.add_row(label, network.network, *cost, *(column.text(network.test) for column in task.columns))
    return table
