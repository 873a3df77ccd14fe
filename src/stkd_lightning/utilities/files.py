"""The file system, without torch."""

import json
import os
from pathlib import Path
from typing import Any

from stkd_lightning.utilities.errors import InputError

LAST, BEFORE, BEST = "last.ckpt", "before_last.ckpt", "best.ckpt"  # of a run
CHECKPOINTS = (".ckpt", ".pt", ".pth", ".tar", ".bin", ".safetensors")


def check_exists(checkpoint: Path) -> None:
    """Refuse a checkpoint that is not there.

    Raises:
        InputError: names those that lie where it should.
    """
    if not checkpoint.is_file():
        near = sorted(p.name for p in checkpoint.parent.glob("*") if p.suffix in CHECKPOINTS)[:5]
        raise InputError(f"checkpoint {checkpoint}: no such file" + (f"; there: {', '.join(near)}" if near else ""))


def fsync(path: Path) -> None:
    """Have a file, or the names in a folder, survive a crash of the machine."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def last_kept(folder: Path) -> Path | None:
    """Return the newest checkpoint in a folder, whole or not."""
    return next((path for name in (LAST, BEFORE) if (path := folder / name).is_file()), None)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file as ``write_text`` does."""
    write_text(path, json.dumps(content, indent=2))


def write_text(path: Path, content: str) -> None:
    """Write a file in UTF-8 as ``write_bytes`` does."""
    write_bytes(path, content.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that is whole or not there, whoever else writes it at the same moment."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written.

    Raises:
        InputError: names the part of the path that is in the way.
    """
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise InputError(f"output folder {folder}: cannot be made, {existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"output folder {folder}: cannot be written, no permission for {existing}")
