"""Files and folders that appear complete or not at all, and checks of paths. This file imports no torch."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stkd_lightning.utilities.errors import InputError

LAST, BEFORE, BEST = "last.ckpt", "before_last.ckpt", "best.ckpt"  # checkpoints of a run
CHECKPOINTS = (".ckpt", ".pt", ".pth", ".tar", ".bin", ".safetensors")


def check_exists(checkpoint: Path) -> None:
    """Refuse a checkpoint that does not exist.

    Raises:
        InputError: names the checkpoints in its folder.
    """
    if not checkpoint.is_file():
        near = sorted(p.name for p in checkpoint.parent.glob("*") if p.suffix in CHECKPOINTS)[:5]
        raise InputError(f"checkpoint {checkpoint}: no such file" + (f"; there: {', '.join(near)}" if near else ""))


def fsync(path: Path) -> None:
    """Write a file's content, or a folder's list of names, to the disk, so that it survives a crash of the machine."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)  # Windows syncs only what it may write
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside a file; at the end its content is synced and becomes the file.

    The file is complete at any time, also when several processes write it. An exception removes the temporary file and
    leaves the file as it was.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)  # may be a link to a file of a killed process with the same id
    try:
        yield partial
        fsync(partial)
        os.replace(partial, path)
        fsync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, locked: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside a folder; at the end its files are synced and it replaces the folder.

    An exception removes the temporary folder and leaves the folder as it was. Only files directly in it are synced.

    Args:
        path: of the folder; its parents are created, and a link stays a link.
        locked: the caller holds a lock, so a temporary folder of a killed process is removed.

    Raises:
        OSError: the disk is full, or the parent folder cannot be written.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    name = f".{path.name}" if locked else f".{path.name}.{os.getpid()}"
    partial, old = path.with_name(f"{name}.partial"), path.with_name(f"{name}.old")
    if locked:
        shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        for file in partial.iterdir():
            fsync(file)
        fsync(partial)
        if path.is_dir():
            os.replace(path, old)
        try:
            os.replace(partial, path)
        except OSError:
            if old.is_dir():
                os.replace(old, path)
            raise
        fsync(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def link_or_copy(path: Path, other: Path) -> None:
    """Link a file under a second name atomically, or copy it; a later write to the first name changes only that one."""
    with atomic_file(other) as partial:
        try:
            os.link(path, partial)
        except OSError:  # a file system without links
            shutil.copyfile(path, partial)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file as ``write_text`` does."""
    write_text(path, json.dumps(content, indent=2))


def write_text(path: Path, content: str) -> None:
    """Write a file in UTF-8 as ``write_bytes`` does."""
    write_bytes(path, content.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file as ``atomic_file`` does."""
    with atomic_file(path) as partial:
        partial.write_bytes(content)


def last_kept(folder: Path) -> Path | None:
    """Return the newest checkpoint in a folder, intact or not."""
    return next((path for name in (LAST, BEFORE) if (path := folder / name).is_file()), None)


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be created or written.

    Raises:
        InputError: names the part of the path that prevents it.
    """
    existing = folder.absolute()
    while not existing.exists():
        if existing.is_symlink():
            raise InputError(f"output folder {folder}: cannot be made, {existing} is a link to nothing")
        existing = existing.parent
    if not existing.is_dir():
        raise InputError(f"output folder {folder}: cannot be made, {existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"output folder {folder}: cannot be written, no permission for {existing}")
    try:
        if existing != folder.absolute():  # some file systems, such as /proc, grant the permission and make no folder
            tempfile.TemporaryDirectory(dir=existing).cleanup()
    except OSError as error:
        raise InputError(f"output folder {folder}: cannot be made in {existing} ({error.strerror})") from error
