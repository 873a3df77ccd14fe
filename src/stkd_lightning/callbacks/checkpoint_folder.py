"""The files that a run's checkpoints are, and which of them it can go on from."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stkd_lightning.models.checkpoint_file import intact
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.files import BEFORE, BEST, LAST, fsync
from stkd_lightning.utilities.rank import process_rank

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

PATIENCE = 15.0  # seconds; the workers of a process that was killed take some to notice


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run's folder for as long as this one lives, where the file system can do that.

    Raises:
        InputError: another process is at work there.
    """
    if fcntl is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        until = time.monotonic() + PATIENCE
        while not _locked(handle):
            if time.monotonic() > until:
                raise InputError(f"output folder {folder}: another process is at work there; let it end")
            time.sleep(0.1)
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def keep_as(path: Path, other: Path) -> None:
    """Have a file under another name too, whole at any time, whatever is written under its own later."""
    aside = other.with_name(f".{other.name}.{os.getpid()}.partial")
    aside.unlink(missing_ok=True)
    try:
        try:
            os.link(path, aside)
        except OSError:  # a file system without links
            shutil.copyfile(path, aside)
            fsync(aside)
        os.replace(aside, other)
    finally:
        aside.unlink(missing_ok=True)


def newest_whole(folder: Path) -> Path | None:
    """Return the newest checkpoint that is what was written; set damaged ones aside, and remove half-written files.

    Args:
        folder: of a run's checkpoints.
    """
    first = process_rank() == 0
    if first:
        for partial in (*folder.glob(".*.partial"), *folder.parent.glob(".*.partial")):
            partial.unlink(missing_ok=True)
    for path in (folder / LAST, folder / BEFORE):
        try:
            whole = intact(path)
        except OSError:  # not there
            continue
        if whole:
            return path
        if first:
            aside = path.with_suffix(".damaged")
            path.replace(aside)
            print_rank_zero(f"[yellow]warning: checkpoint {path} is damaged; it is now {aside.name}[/yellow]")
    return None


def clear_run(run: Path) -> None:
    """Remove what an earlier run left in its folder, by which another could be taken for it."""
    for name in (LAST, BEFORE, BEST):
        (run / "checkpoints" / name).unlink(missing_ok=True)
    for name in ("summary.json", "diagnostics.npz"):
        (run / name).unlink(missing_ok=True)
