"""Find the student of a path that a user gives: of a run, of a sweep, or a file."""

from pathlib import Path

from stkd_lightning.inference.export_folder import is_export
from stkd_lightning.inference.load import has_checkpoint
from stkd_lightning.reporting.run import CONFIG, SUMMARY, Run, search
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError


def student_path(path: Path) -> Path:
    """Return the path of a student; for the folder of a sweep the folder of its best run, which is printed.

    The best run has the best score of its last student on validation images.

    Args:
        path: a checkpoint, an export, or the folder of one or of several runs.

    Raises:
        InputError: the runs of a folder cannot be compared.
    """
    if path.name in (SUMMARY, CONFIG) and path.is_file():
        path = path.parent
    if not path.is_dir() or is_export(path) or has_checkpoint(path):
        return path
    found = search([path])
    if not found.runs and not found.damaged:
        return path
    complete = [run for run in found.runs if run.folder and has_checkpoint(run.folder)]
    runs = [run for run in complete if run.summary.student.validation]
    if not runs:
        raise InputError(f"checkpoint={path}: no run in it has a student and validation images; name a run's folder")
    if len({(run.group.data, run.group.digest, run.summary.score) for run in runs}) > 1:
        raise InputError(f"checkpoint={path}: holds runs on several data sets; name a run's folder")
    score = runs[0].summary.score
    best = (max if score.higher else min)(runs, key=_validation)
    value = score.text(_validation(best))
    print_rank_zero(f"{best.folder}: the best of {len(runs)} runs by {score.label} on validation images, {value}")
    return best.folder or path


def _validation(run: Run) -> float:
    return run.score(run.summary.student.validation or {})
