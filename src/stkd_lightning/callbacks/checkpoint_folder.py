"""The folder of a run's checkpoints: its lock, and the newest intact checkpoint in it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from stkd_lightning.models.checkpoint_file import intact
from stkd_lightning.utilities.console import warn
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.files import BEFORE, BEST, LAST
from stkd_lightning.utilities.rank import process_rank

LOCK = ".lock"
PATIENCE = 15.0  # seconds; workers of a killed process take some of them to end


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Lock a run's folder against other processes, if its file system has locks.

    Raises:
        InputError: another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=PATIENCE, poll_interval=0.1)
    except Timeout as error:
        raise InputError(f"output folder {folder}: another process is at work there; let it end") from error
    except (OSError, NotImplementedError):  # a file system without locks
        pass
    try:
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):  # Windows removes the file of a lock when it is released
                (folder / LOCK).unlink()
            lock.release()


def newest_whole(folder: Path) -> Path | None:
    """Return the newest intact checkpoint; rename damaged checkpoints, and remove temporary files.

    Args:
        folder: of a run's checkpoints.
    """
    first = process_rank() == 0
    if first:
        for partial in (*folder.glob(".*.partial"), *folder.parent.glob(".*.partial")):
            partial.unlink(missing_ok=True)
    for path in (folder / LAST, folder / BEFORE):
        try:
            is_intact = intact(path)
        except OSError:  # missing
            continue
        if is_intact:
            return path
        if first:
            aside = path.with_suffix(".damaged")
            path.replace(aside)
            warn(f"checkpoint {path} is damaged; it is now {aside.name}")
    return None


def clear_run(run: Path) -> None:
    """Remove the results of an earlier run from its folder, so that they are not taken for those of a new run."""
    for name in (LAST, BEFORE, BEST):
        (run / "checkpoints" / name).unlink(missing_ok=True)
    for name in ("summary.json", "diagnostics.npz"):
        (run / name).unlink(missing_ok=True)
