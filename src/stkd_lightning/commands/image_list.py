"""Find the images or sound files that a user names, as files or as folders."""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from stkd_lightning.data.image_files import ENDINGS, images_below, kinds_of, say_left_out
from stkd_lightning.utilities.errors import InputError


class NamedImage(NamedTuple):
    """An image file, and its name: the path below the folder that the user named."""

    path: Path
    name: Path


def find_images(paths: list[str], endings: Collection[str] = ENDINGS, kind: str = "image") -> list[NamedImage]:
    """Return the given files, and the files with some endings in and below the given folders, in order.

    Args:
        paths: of files and folders.
        endings: of the files in folders.
        kind: word for such a file.

    Raises:
        InputError: a folder contains no such file.
    """
    images: list[NamedImage] = []
    for path in map(Path, paths):
        if not path.is_dir():
            images.append(NamedImage(path, Path(path.name)))
            continue
        found = images_below(path, endings)
        if not found.images:
            others = f", only other files: {kinds_of(found.left_out)}" if found.left_out else ""
            raise InputError(f"images={path}: contains no {kind}{others}")
        say_left_out(path, found.left_out)
        images += [NamedImage(image, image.relative_to(path)) for image in found.images]
    return images
