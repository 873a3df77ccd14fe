"""Load a student from a run, a checkpoint or an export."""

from pathlib import Path

from stkd_lightning.inference.student import Student, build
from stkd_lightning.inference.student_info import of_checkpoint
from stkd_lightning.inference.student_kinds import student_for
from stkd_lightning.inference.trust import check_image_size, check_trusted
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.files import BEST, LAST


def load_student(path: str | Path, *, trust: bool = False) -> Student:
    """Load a student to the CPU, in float32; of a segmentation network a ``SegmentationStudent``.

    Args:
        path: folder of a run (its selected student, otherwise its last), a checkpoint of this project, or a folder
            written by ``python -m stkd_lightning.export``.
        trust: allow classes of other projects and programs that the file contains.

    Raises:
        InputError: a file that cannot be read, or that needs ``trust``.
    """
    from stkd_lightning.inference.export_folder import is_export, load_export  # imports Student itself

    path = Path(path).expanduser()
    if path.is_file() and path.stem in ("model", "student") and is_export(path.parent):
        path = path.parent  # a file of an export
    if is_export(path):
        return load_export(path, trust=trust)
    checkpoint = checkpoint_file(path)
    facts = of_checkpoint(checkpoint)
    if not trust:
        check_image_size(facts, checkpoint)
        check_trusted({"student": facts.network}, checkpoint)
    return student_for(build(facts, checkpoint), facts)


def has_checkpoint(folder: Path) -> bool:
    """Return whether a folder is that of a run with a student."""
    return _checkpoint_in(folder) is not None


def checkpoint_file(path: Path) -> Path:
    """Return the checkpoint file of a path: for the folder of a run its selected student, otherwise its last.

    Raises:
        InputError: a folder without checkpoints.
    """
    if not path.is_dir():
        return path
    if (checkpoint := _checkpoint_in(path)) is None:
        raise InputError(f"checkpoint {path}: a folder without checkpoints/best.ckpt or last.ckpt")
    return checkpoint


def _checkpoint_in(folder: Path) -> Path | None:
    candidates = (place / name for name in (BEST, LAST) for place in (folder / "checkpoints", folder))
    return next((path for path in candidates if path.is_file()), None)
