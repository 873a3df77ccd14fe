"""Whether a folder can be written, before there is anything to write."""

import os
from pathlib import Path

from stkd_lightning.errors import InputError


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
