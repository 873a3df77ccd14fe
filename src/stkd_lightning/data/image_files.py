"""Find the image files below a folder."""

import os
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from stkd_lightning.data.decode import TGA
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError

ENDINGS = {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff", ".gif",
           ".avif", ".jp2", ".j2k", ".jpx", TGA}  # fmt: skip
SHOWN = 5  # endings in a line


class Found(NamedTuple):
    """Files below a folder.

    Attributes:
        images: the image files, sorted.
        left_out: number of other files, by ending or by what they are.
    """

    images: list[Path]
    left_out: Counter[str]


def walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and those below it, with the names in it that are no visible folders.

    Links to folders are followed. Each folder is read once, so a link that leads back ends there.

    Raises:
        InputError: a folder that cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise InputError(f"folder {error.filename}: cannot be read ({error.strerror})") from error

    read = set()
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        hidden = [name for name in folders if name.startswith(".")]
        folders[:] = sorted(set(folders) - set(hidden))
        if (real := os.path.realpath(parent)) in read:
            folders.clear()
            continue
        read.add(real)
        yield Path(parent), [*names, *hidden]


def images_below(folder: Path, endings: Collection[str] = ENDINGS) -> Found:
    """Find the image files, or other files, below a folder, by their endings.

    Raises:
        InputError: a folder that cannot be read.
    """
    found = Found([], Counter())
    for parent, names in walk(folder):
        for name in names:
            path = parent / name
            if name.startswith("."):
                found.left_out["hidden"] += 1
            elif path.suffix.lower() not in endings:
                found.left_out[path.suffix.lower() or "without ending"] += 1
            elif not path.is_file():
                found.left_out["no regular file"] += 1
            else:
                found.images.append(path)
    found.images.sort()
    return found


def say_left_out(place: Path, left_out: Counter[str]) -> None:
    """Print one line with the number of files that are not read, by ending; nothing if there are none."""
    if left_out:
        print_rank_zero(f"{place}: files not read: {kinds_of(left_out)}")


def kinds_of(left_out: Counter[str]) -> str:
    """Return the most frequent endings with the number of their files."""
    kinds = dict(sorted(left_out.items(), key=lambda item: (-item[1], item[0]))[:SHOWN])
    if rest := left_out.total() - sum(kinds.values()):
        kinds["others"] = rest
    return ", ".join(f"{kind} {number:,}" for kind, number in kinds.items())
