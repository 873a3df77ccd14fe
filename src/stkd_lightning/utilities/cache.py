"""Files that runs share in the cache: locked while they are written, set aside when they are damaged."""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from stkd_lightning.utilities.console import console, warn
from stkd_lightning.utilities.errors import InputError, reason
from stkd_lightning.utilities.files import write_json

DAMAGED = ".damaged"


@contextmanager
def locked(entry: Path) -> Iterator[None]:
    """Lock an entry of the cache while this process writes it.

    Args:
        entry: a file or folder; its parents are created.

    Raises:
        InputError: the cache cannot be written.
    """
    lock = FileLock(entry.with_suffix(".lock"))
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise InputError(
            f"cache {entry.parent}: cannot be written ({error.strerror}), but {entry.name} is missing or damaged; "
            "set cache_dir=FOLDER"
        ) from None  # a mistake to correct, no failure of the machine
    try:
        yield
    finally:
        lock.release()


def set_aside(entry: Path, cause: str) -> None:
    """Rename a damaged entry, so that it is made anew; an entry that was set aside before is deleted.

    Args:
        entry: a file or folder.
        cause: what is wrong with it.

    Raises:
        InputError: the cache cannot be written, or the entry belongs to another user.
    """
    aside = entry.with_suffix(DAMAGED)
    shutil.rmtree(aside, ignore_errors=True)
    try:
        os.replace(entry, aside)
    except FileNotFoundError:  # another process was faster
        return
    except OSError as error:
        raise InputError(
            f"cache {entry}: cannot be used ({cause}) and cannot be renamed ({error.strerror}); set cache_dir=FOLDER"
        ) from None
    console.print(f"warning: {entry} cannot be used ({cause}); it is now {aside.name}", style="yellow")


def mark_used(entry: Path) -> None:
    """Set the time of an entry's last use, where the cache can be written."""
    with suppress(OSError):
        os.utime(entry)


def remembered(path: Path, compute: Callable[[], float]) -> float:
    """Return the number in a file; compute and write it if there is no file or no number in it."""
    try:
        value = _number(path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, RecursionError) as error:
        with suppress(InputError):
            set_aside(path, reason(error))
    else:
        mark_used(path)
        return value
    value = float(compute())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, value)
    except OSError as error:
        warn(f"{path}: not written ({error.strerror})")
    return value


def _number(path: Path) -> float:
    value = json.loads(path.read_bytes())
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError("it holds no number")
    return float(value)
