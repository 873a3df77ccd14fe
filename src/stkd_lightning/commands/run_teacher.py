"""The teacher of the run that a checkpoint belongs to."""

from pathlib import Path
from typing import Literal

from stkd_lightning.commands.diagnose import teacher_of
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.reporting.run import SUMMARY, read_run, run_folder
from stkd_lightning.teacher.frozen import FrozenTeacher
from stkd_lightning.utilities.console import warn
from stkd_lightning.utilities.errors import InputError, reason


def run_teacher(
    checkpoint: Path, data: ArrayDataModule, needed: bool | Literal["auto"], *, trust: bool
) -> FrozenTeacher | None:
    """Return the teacher of a checkpoint's run, if its weights are on this machine.

    Args:
        checkpoint: of the student.
        data: data that the teacher is asked about.
        needed: ``True``: a teacher that is missing is an error; ``"auto"``: one that cannot be read is a warning.
        trust: also build a class that is not part of this project.

    Raises:
        InputError: a needed teacher is missing, or cannot be read.
    """
    folder = run_folder(checkpoint)
    try:
        run = read_run(folder) if (folder / SUMMARY).is_file() else None
        if run is not None and run.summary.teacher_checkpoint:
            return teacher_of(run, data, trust=trust)
    except Exception as error:  # a configuration or a network can raise anything
        if needed is True:
            raise InputError(f"with_teacher=true: {reason(error)}") from error
        warn(f"no comparison with the teacher ({reason(error)})")
        return None
    if needed is True:
        raise InputError(f"with_teacher=true: {folder} names no checkpoint of a teacher; leave it out")
    return None
