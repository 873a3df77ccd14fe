"""The front end of a student that hears clips, inside or outside of an exported file."""

from collections.abc import Mapping
from dataclasses import replace
from inspect import signature
from typing import cast

from torch import Tensor, nn

from stkd_lightning.inference.student import Student
from stkd_lightning.inference.student_info import StudentFacts
from stkd_lightning.models.audio.log_mel import LogMel
from stkd_lightning.models.audio.tagger import Tagger
from stkd_lightning.utilities.errors import InputError

FRONT_END = "stkd_lightning.models.LogMel"


class AfterFrontEnd(nn.Module):
    """A front end before an exported file: clips ``(B, T)`` to logits ``(B, C)``.

    Args:
        front_end: clips to spectrograms.
        network: spectrograms to logits.
    """

    def __init__(self, front_end: LogMel, network: nn.Module) -> None:
        super().__init__()
        self.front_end, self.network = front_end, network

    def forward(self, clips: Tensor) -> Tensor:
        return self.network(self.front_end(clips))


def front_end_of(facts: StudentFacts) -> LogMel:
    """Build the front end of a student; its settings may come from anybody, so they choose no class.

    Raises:
        InputError: its network has none, or other settings than numbers.
    """
    node = facts.network.get("front_end")
    if not isinstance(node, Mapping) or node.get("_target_") != FRONT_END:
        raise InputError("front_end=outside: this student has no front end of its own")
    settings = {str(name): value for name, value in node.items() if name != "_target_"}
    if unknown := settings.keys() - signature(LogMel).parameters.keys():
        raise InputError(f"front_end: has no setting {min(unknown)!r}")
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise InputError(f"front_end.{name}={str(value)[:50]}: must be a number")
    return LogMel(**settings)


def without_front_end(student: Student) -> Student:
    """Return the part of a student behind its front end, from spectrograms ``(B, 1, N, mels)`` to logits.

    Raises:
        InputError: its network has none.
    """
    if not isinstance(student.network, Tagger):
        raise InputError("front_end=outside: this student has no front end of its own")
    return Student(student.network.network, replace(student.facts, outside=True))


def complete(network: nn.Module, facts: StudentFacts) -> nn.Module:
    """Return the network of an exported file with the front end that it needs."""
    return cast(nn.Module, AfterFrontEnd(front_end_of(facts), network)) if facts.outside else network
