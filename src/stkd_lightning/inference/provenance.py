"""The origin of a student in its checkpoint, written and read in one place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stkd_lightning.data.description import DataDescription
from stkd_lightning.models.checkpoint_file import KEY
from stkd_lightning.models.weights import read_checkpoint
from stkd_lightning.utilities.errors import InputError


@dataclass(frozen=True)
class StudentProvenance:
    """The configuration, data and teacher that a network was trained with.

    Attributes:
        config: the resolved configuration of the run as plain containers; at least ``student`` and ``dataset``.
        data: the data that it was trained on.
        input: the input that the network expects: ``size``, ``mean``, ``std``.
        teacher: digest of the teacher's weights; ``None`` where no teacher was asked.
    """

    config: dict[str, Any]
    data: DataDescription
    input: dict[str, Any]
    teacher: str | None = None

    @property
    def network(self) -> dict[str, Any]:
        """The node of the network that was trained: the student, or what a method made of it."""
        return self.config.get("distilled") or self.config["student"]

    def to_plain(self) -> dict[str, Any]:
        """Return plain containers, which ``weights_only=True`` reads."""
        plain = {"config": self.config, "data": self.data.to_plain(), "input": self.input}
        return plain | {"teacher": self.teacher}

    @classmethod
    def from_checkpoint(cls, path: Path) -> "StudentProvenance":
        """Read the provenance of a checkpoint.

        Raises:
            InputError: not a checkpoint of this project, or a damaged one.
        """
        content: Any = read_checkpoint(path).get(KEY)
        try:
            config = dict(content["config"])
            config |= {part: dict(config[part]) for part in ("student", "dataset")}
            if config.get("distilled"):
                config["distilled"] = dict(config["distilled"])
            data = DataDescription.from_plain(content["data"])
            teacher, expected = content.get("teacher"), dict(content.get("input", {}))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"checkpoint {path}: has no record of its network and data; it was not written by stkd-lightning"
            ) from error
        return cls(config, data, expected, teacher)
