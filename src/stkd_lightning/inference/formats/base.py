"""What a format of export is: how it is written, and how it is run again."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from stkd_lightning.inference.student import Student
from stkd_lightning.inference.student_info import StudentFacts
from stkd_lightning.utilities.errors import InputError, reason

INSIDE = "student.json"  # what is known of a student, in the archives of formats that are archives


class Format(ABC):
    """A format.

    Attributes:
        name: of its choice in ``conf/format``.
        file: that it writes.
        packages: beyond the project's own, that it needs.
        holds_programs: whether reading a file of it may run what its maker wrote.
        usage: how a file is run without this project, in Python; empty: not at all.
    """

    name: ClassVar[str]
    file: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    holds_programs: ClassVar[bool] = False
    usage: ClassVar[str] = ""

    @abstractmethod
    def write(self, student: Student, path: Path) -> None:
        """Write a student for batches of any size, with ``metadata`` of it."""

    @abstractmethod
    def read(self, path: Path, facts: StudentFacts) -> nn.Module:
        """Return what runs a file: images ``(B, 3, S, S)``, normalized, on the CPU to logits ``(B, K)``."""

    def check_trusted(self, path: Path, facts: StudentFacts) -> None:
        """Refuse to read a file that could run what others wrote.

        Raises:
            InputError: it could.
        """
        if self.holds_programs:
            raise InputError(f"export {path}: a {self.name} file can hold any program; trust=true runs it")


def need(name: str, packages: Iterable[str]) -> None:
    """Refuse a format whose packages are not there.

    Raises:
        InputError: says how to install them.
    """
    try:
        for package in packages:
            import_module(package)
    except ImportError as error:
        missing = error.name or reason(error)
        raise InputError(f"format={name}: {missing} is not installed: pip install 'stkd-lightning[export]'") from error


def example(facts: StudentFacts) -> Tensor:
    """Return images to trace a network with, ``(2, 3, S, S)``; of one, a tracer could take the batch for a constant."""
    return torch.zeros(2, 3, facts.image_size, facts.image_size)


def metadata(facts: StudentFacts) -> dict[str, str]:
    """Return what a file says of itself, for those who have nothing but it."""
    return {
        "made_by": "stkd-lightning",
        "input": f"images (batch, 3, {facts.image_size}, {facts.image_size}), float32; RGB in [0, 1], minus mean, "
        "divided by std, channel by channel",
        "output": "logits (batch, classes), before softmax",
        "image_size": str(facts.image_size),
        "mean": json.dumps(facts.mean),
        "std": json.dumps(facts.std),
        "class_names": json.dumps(facts.class_names),
        "about": json.dumps(facts.about),
    }
