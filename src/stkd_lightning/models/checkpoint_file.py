"""Checkpoint files that tell when they are damaged: torch's own format with a digest as the archive's comment."""

import hashlib
import io
import pickle
import re
from pathlib import Path
from typing import Any

import torch

from stkd_lightning.utilities.errors import InputError, RunError
from stkd_lightning.utilities.files import atomic_file

# The end record of a zip archive closes with the length of a comment and the comment.
MARK = b"sha256:"
COMMENT = len(MARK) + 64
NO_COMMENT = (0).to_bytes(2, "little")


def write_sealed(content: Any, path: Path, *, read_back: bool = False) -> None:
    """Write what ``torch.save`` would, with a digest, aside; it appears whole, and is on the disk when this returns.

    Args:
        content: plain containers and tensors.
        path: of the file.
        read_back: try first whether the content can be read with ``weights_only=True``.

    Raises:
        RunError: it cannot.
        OSError: the disk is full or the folder cannot be written; what lay there is as it was.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    if read_back:
        buffer.seek(0)
        try:
            torch.load(buffer, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            found = re.search(r"GLOBAL ([\w.]+)", str(error))
            raise RunError(
                f"checkpoint {path}: could not be read again: a callback's, optimizer's or schedule's state holds "
                f"{found[1] if found else 'more than plain values'}",
                passes=False,
            ) from error
    raw = buffer.getbuffer()
    comment = MARK + hashlib.sha256(raw).hexdigest().encode()
    with atomic_file(path) as partial, partial.open("wb") as file:
        file.write(raw[: -len(NO_COMMENT)])
        file.write(len(comment).to_bytes(2, "little") + comment)


def intact(path: Path) -> bool | None:
    """Return whether a file is what was written; ``None``: it carries no digest.

    Raises:
        OSError: it cannot be read.
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
    """Refuse a file whose digest is another than that of its content.

    Raises:
        InputError: it is damaged.
    """
    if intact(path) is False:
        raise InputError(f"checkpoint {path}: damaged, its content is not what was written; take another one")


KEY = "stkd_lightning"
