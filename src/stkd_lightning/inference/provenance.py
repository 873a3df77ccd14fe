"""The origin of a student in its checkpoint, written and read in one place."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stkd_lightning.data.description import DataDescription
from stkd_lightning.models.checkpoint_file import KEY
from stkd_lightning.models.start import plain_without_start
from stkd_lightning.models.weights import read_checkpoint
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.plain import checked
from stkd_lightning.utilities.untrusted import check_plain


@dataclass(frozen=True)
class StudentProvenance:
    """The configuration, data and teacher that a network was trained with.

    Attributes:
        config: the resolved configuration of the run as plain containers; at least ``student`` and ``dataset``.
        data: the data that it was trained on.
        input: the input that the network expects: ``size``, ``mean``, ``std``.
        teacher: digest of the teacher's weights; ``None`` where no teacher was asked.
        front: cache key of the training of its front, or of its pretraining; ``None`` where there was none.
    """

    config: dict[str, Any]
    data: DataDescription
    input: dict[str, Any]
    teacher: str | None = None
    front: str | None = None

    @property
    def network(self) -> dict[str, Any]:
        """The node of the network that was trained: the student, or what a method made of it, without its start."""
        return plain_without_start(self.config.get("distilled") or self.config["student"])

    def to_plain(self) -> dict[str, Any]:
        """Return plain containers, which ``weights_only=True`` reads."""
        plain = {"config": self.config, "data": self.data.to_plain(), "input": self.input}
        front = {} if self.front is None else {"front": self.front}
        return plain | {"teacher": self.teacher} | front

    @classmethod
    def from_checkpoint(cls, path: Path) -> "StudentProvenance":
        """Read the provenance of a checkpoint.

        Raises:
            InputError: not a checkpoint of this project, or a damaged one.
        """
        content: Any = read_checkpoint(path).get(KEY)
        if not isinstance(content, Mapping) or "config" not in content:
            raise InputError(
                f"checkpoint {path}: has no record of its network and data; it was not written by stkd-lightning"
            )
        try:
            origin = checked(cls, check_plain(content, "it"), {"input": {}})
            parts = [origin.config.get("student"), origin.config.get("dataset"), origin.config.get("distilled") or {}]
            if not all(isinstance(part, dict) for part in parts):
                raise InputError("config: student and dataset must be mappings")
        except InputError as error:
            raise InputError(f"checkpoint {path}: its record of network and data is damaged ({error})") from error
        return origin
