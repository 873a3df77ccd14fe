"""A student from a run, a checkpoint or an export."""

from pathlib import Path

from stkd_lightning.inference.student import Student, build
from stkd_lightning.inference.student_info import of_checkpoint
from stkd_lightning.inference.trust import check_trusted
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.files import BEST, LAST


def load_student(path: str | Path, *, trust: bool = False) -> Student:
    """Load a student, on the CPU, in float32.

    Args:
        path: the folder of a run (its selected, else its last student), a checkpoint of this project, or a folder
            that ``python -m stkd_lightning.export`` wrote.
        trust: build classes that are not this project's, and run programs, as the file says.

    Raises:
        InputError: it cannot be read, or wants more trust than it is given.
    """
    from stkd_lightning.inference.export_folder import is_export, load_export  # which knows what a student is

    path = Path(path)
    if is_export(path):
        return load_export(path, trust=trust)
    checkpoint = checkpoint_file(path)
    facts = of_checkpoint(checkpoint)
    if not trust:
        check_trusted({"student": facts.network}, checkpoint)
    return Student(build(facts, checkpoint), facts)


def checkpoint_file(path: Path) -> Path:
    """Return a checkpoint itself; of a run's folder its selected, else its last student.

    Raises:
        InputError: neither is there.
    """
    if not path.is_dir():
        return path
    for name in (BEST, LAST):
        for folder in (path / "checkpoints", path):
            if (folder / name).is_file():
                return folder / name
    raise InputError(f"checkpoint {path}: a folder without checkpoints/best.ckpt or last.ckpt")
