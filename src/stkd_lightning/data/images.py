"""Decoding image files to arrays of one size."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from tqdm import tqdm

from stkd_lightning.errors import InputError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
CHUNK = 512


def decode(path: Path, size: int) -> NDArray[np.uint8]:
    """Return an image file as ``(3, size, size)`` uint8; another shape is resized to cover, then cropped centrally.

    Raises:
        InputError: the file is not an image that can be read, with its path.
    """
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
            if image.size != (size, size):
                image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
            return np.asarray(image).transpose(2, 0, 1)
    except Exception as error:  # Pillow raises many types for a damaged file
        reason = "damaged or not an image" if str(path) in str(error) else error
        raise InputError(f"image {path}: cannot be read ({reason}); replace or delete it") from error


def decode_all(paths: Sequence[Path], size: int, description: str) -> Iterator[NDArray[np.uint8]]:
    """Yield chunks ``(n, 3, size, size)`` of image files in order, decoded on several threads."""
    with (
        ThreadPoolExecutor() as pool,
        tqdm(total=len(paths), desc=description, unit="image", leave=False, disable=None) as bar,
    ):
        remaining = iter(paths)
        while chunk := list(islice(remaining, CHUNK)):
            yield np.stack(list(pool.map(lambda path: decode(path, size), chunk)))
            bar.update(len(chunk))


def class_folders(folder: Path) -> list[str]:
    """Return the names of a folder's subfolders, sorted; hidden ones are left out."""
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def image_files(folder: Path) -> list[Path]:
    """Return the image files below a folder, sorted; hidden ones are left out."""
    return sorted(
        p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS and not p.name.startswith(".") and p.is_file()
    )
