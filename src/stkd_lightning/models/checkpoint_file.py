"""Checkpoint files with a digest: torch's format, and a SHA-256 in the archive's comment that shows damage."""

import hashlib
import io
import pickle
import re
from pathlib import Path
from typing import Any

import torch

from stkd_lightning.utilities.errors import InputError, RunError
from stkd_lightning.utilities.files import atomic_file

# The end record of a zip archive ends with the length of a comment and the comment.
MARK = b"sha256:"
COMMENT = len(MARK) + 64
NO_COMMENT = (0).to_bytes(2, "little")


def write_sealed(content: Any, path: Path, *, read_back: bool = False) -> None:
    """Write content as ``torch.save`` does, with a digest; the file is complete and synced when this returns.

    Args:
        content: plain containers and tensors.
        path: of the file.
        read_back: first check that ``weights_only=True`` can read the content.

    Raises:
        RunError: ``weights_only=True`` cannot read the content.
        OSError: the disk is full or the folder cannot be written; an existing file does not change.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    if read_back:
        buffer.seek(0)
        try:
            torch.load(buffer, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            match = re.search(r"GLOBAL ([\w.]+)", str(error))
            raise RunError(
                f"checkpoint {path}: could not be read again: a callback's, optimizer's or schedule's state holds "
                f"{match[1] if match else 'more than plain values'}",
                passes=False,
            ) from error
    raw = buffer.getbuffer()
    comment = MARK + hashlib.sha256(raw).hexdigest().encode()
    with atomic_file(path) as partial, partial.open("wb") as file:
        file.write(raw[: -len(NO_COMMENT)])
        file.write(len(comment).to_bytes(2, "little") + comment)


def intact(path: Path) -> bool | None:
    """Return whether a file's content has the digest that was written; ``None``: it has no digest.

    Raises:
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        body = size - COMMENT - len(NO_COMMENT)
        file.seek(max(0, body))
        end = file.read()
        length, comment = end[: len(NO_COMMENT)], end[len(NO_COMMENT) :]
        if body < 0 or length != COMMENT.to_bytes(2, "little") or not comment.startswith(MARK):
            return None
        file.seek(0)
        while body:
            block = file.read(min(body, 1 << 20))
            digest.update(block)
            body -= len(block)
    digest.update(NO_COMMENT)
    return comment == MARK + digest.hexdigest().encode()


def check_seal(path: Path) -> None:
    """Refuse a file whose content has another digest than was written.

    Raises:
        InputError: the file is damaged.
    """
    if intact(path) is False:
        raise InputError(
            f"checkpoint {path}: damaged, its content differs from what was written; use another checkpoint"
        )


KEY = "stkd_lightning"  # of a student's provenance in a checkpoint
