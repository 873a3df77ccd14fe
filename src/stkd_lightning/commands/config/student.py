"""The file from which a student starts."""

from pathlib import Path

from omegaconf import DictConfig

from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.files import check_exists


def check_start(student: DictConfig) -> None:
    """Refuse a file that does not exist, and options that contradict it.

    Raises:
        InputError: names the option.
    """
    checkpoint, key = student.get("checkpoint"), student.get("checkpoint_key")
    if checkpoint is None:
        if key is not None:
            raise InputError(
                "student.checkpoint_key: chooses weights of a checkpoint, but student.checkpoint is not set; set it too"
            )
        return
    check_exists(Path(validation.path("student.checkpoint", checkpoint)))
    if not isinstance(key, str | None):
        raise InputError(f"student.checkpoint_key={key}: must be a name, such as student")
    for other in ("weights", "pretrained"):
        if student.get(other):
            raise InputError(f"student.checkpoint: student.{other} is set, too; set only one of them")
