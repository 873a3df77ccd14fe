"""The base of export formats: how a student is written, and how its file is read."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from stkd_lightning.inference.front_end import front_end_of
from stkd_lightning.inference.student import Student
from stkd_lightning.inference.student_info import StudentFacts
from stkd_lightning.tasks.tagging import Tagging
from stkd_lightning.utilities.errors import InputError, reason
from stkd_lightning.utilities.image_size import shape_of, sides

EXAMPLE = (104, 136)  # height and width of images of a dense task that are traced
INSIDE = "student.json"  # of an export folder; also the metadata file in archive formats


class Format(ABC):
    """An export format.

    Attributes:
        name: its name in ``conf/format``.
        file: name of its file.
        packages: packages that it needs, in addition to those of this project.
        holds_programs: whether a file of this format can contain any program.
        usage: Python code that runs a file without this project, with a place for ``{input}``; empty: not possible.
    """

    name: ClassVar[str]
    file: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    holds_programs: ClassVar[bool] = False
    usage: ClassVar[str] = ""

    @abstractmethod
    def write(self, student: Student, path: Path) -> None:
        """Write a student for batches of any size, and of a dense task for images of any sides, with ``metadata``."""

    @abstractmethod
    def read(self, path: Path, facts: StudentFacts) -> nn.Module:
        """Return a module that runs a file: normalized images ``(B, 3, H, W)`` on the CPU to logits."""

    def check_trusted(self, path: Path, facts: StudentFacts) -> None:
        """Refuse a file that can contain programs of others.

        Raises:
            InputError: the format can contain any program.
        """
        if self.holds_programs:
            raise InputError(f"export {path}: a {self.name} file can contain any program; trust=true runs it")


def need(name: str, packages: Iterable[str]) -> None:
    """Refuse a format whose packages are not installed.

    Raises:
        InputError: names the command that installs them.
    """
    try:
        for package in packages:
            import_module(package)
    except ImportError as error:
        missing = error.name or reason(error)
        raise InputError(f"format={name}: {missing} is not installed: pip install 'stkd-lightning[export]'") from error


@contextmanager
def expressing(name: str, student: Student) -> Iterator[None]:
    """Turn any error of an exporter, except one of the disk or the data, into one line.

    Raises:
        InputError: the format cannot express the student's network.
    """
    try:
        yield
    except (InputError, OSError):
        raise
    except Exception as error:  # exporters can raise anything for a network that they do not support
        network = student.about.get("name", "this network")
        raise InputError(
            f"format={name}: cannot express {network} ({reason(error)}); format=safetensors can"
        ) from error


def example(facts: StudentFacts) -> Tensor:
    """Return inputs ``(2, ...)`` for tracing; with a single input a tracer could make the batch size constant.

    Images of a dense task have the sides of ``EXAMPLE``, which are unequal for the same reason.
    """
    if facts.task.dense:
        return torch.zeros(2, 3, *EXAMPLE)
    inputs = torch.zeros(2, *shape_of(len(facts.mean), facts.image_size))
    return front_end_of(facts)(inputs) if facts.outside else inputs


def dynamic_dimensions(facts: StudentFacts) -> dict[int, str]:
    """Return the dimensions of the images that may differ from those of the example, with their names."""
    if facts.sample_rate is not None:
        return {0: "batch", 2: "frames"} if facts.outside else {0: "batch", 1: "samples"}
    return {0: "batch", 2: "height", 3: "width"} if facts.task.dense else {0: "batch"}


def metadata(facts: StudentFacts) -> dict[str, str]:
    """Return the metadata in an exported file: input, output, normalization and class names."""
    return {
        "made_by": "stkd-lightning",
        **_words(facts),
        "image_size": str(facts.image_size),
        **({"evaluation_resize": str(facts.evaluation_resize)} if facts.evaluation_resize else {}),
        "mean": json.dumps(facts.mean),
        "std": json.dumps(facts.std),
        "class_names": json.dumps(facts.class_names),
        "about": json.dumps(facts.about),
    }


def input_words(facts: StudentFacts) -> str:
    """Return the input of an exported file in words."""
    return _words(facts)["input"]


def _words(facts: StudentFacts) -> dict[str, str]:
    """Return input and output in words."""
    activation = "sigmoid" if isinstance(facts.task, Tagging) else "softmax"
    if facts.sample_rate is not None:
        clips = f"(batch, samples), float32 in [-1, 1), {facts.sample_rate} Hz"
        spectrograms = f"(batch, 1, frames, bands), float32; log-mel spectrograms of clips {clips}"
        inputs = f"spectrograms {spectrograms}" if facts.outside else f"clips {clips}"
        return {"input": inputs, "output": f"logits (batch, classes), before {activation}"}
    height, width = ("height", "width") if facts.task.dense else sides(facts.image_size)
    positions = ", height, width" if facts.task.dense else ""
    return {
        "input": f"images (batch, 3, {height}, {width}), float32; RGB in [0, 1], minus mean, "
        "divided by std, channel by channel",
        "output": f"logits (batch, classes{positions}), before {activation}",
    }
