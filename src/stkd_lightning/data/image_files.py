"""Decode image files to arrays of one size."""

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from tqdm import tqdm

from stkd_lightning.data.arrays import RawSplit
from stkd_lightning.utilities.errors import InputError, reason

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
# Pillow reads more formats; it passes PostScript to another program, Ghostscript.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF", "GIF")
MAX_PIXELS = 1 << 26  # a decoded image takes 4 bytes for each pixel, on every thread
CHUNK = 512  # images; fewer if they are large
CHUNK_BYTES = 1 << 28


def decode(path: Path, size: int) -> NDArray[np.uint8]:
    """Decode an image file to ``(3, size, size)`` uint8: resized to cover this size, then cropped at the center.

    Raises:
        InputError: the file is not an image, is damaged or is too large; names its path.
    """
    try:
        with Image.open(path, formats=FORMATS) as file:
            if file.width * file.height > MAX_PIXELS:
                raise ValueError(f"{file.width} x {file.height} pixels; at most {MAX_PIXELS:,} are read")
            image = file.convert("RGB")
            if image.size != (size, size):
                image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
            return np.asarray(image).transpose(2, 0, 1)
    except Exception as error:  # Pillow raises many types for a damaged file
        words = reason(error)
        words = "damaged or not an image" if str(path) in words or words.startswith("cannot identify") else words
        raise InputError(f"image {path}: cannot be read ({words}); replace or delete it") from error


def decode_all(paths: Sequence[Path], size: int, description: str) -> Iterator[NDArray[np.uint8]]:
    """Yield chunks ``(n, 3, size, size)`` of image files in order, decoded on several threads."""
    count = max(1, min(CHUNK, CHUNK_BYTES // (3 * size**2)))
    with (
        ThreadPoolExecutor() as pool,
        tqdm(total=len(paths), desc=description, unit="image", leave=False, disable=None) as bar,
    ):
        remaining = iter(paths)
        while chunk := list(islice(remaining, count)):
            with warnings.catch_warnings():  # a damaged image is refused with an error
                warnings.filterwarnings("ignore", module="PIL")
                images = list(pool.map(lambda path: decode(path, size), chunk))
            yield np.stack(images)
            bar.update(len(chunk))


def class_folders(folder: Path) -> list[str]:
    """Return the names of a folder's subfolders, sorted, without hidden folders."""
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def image_files(folder: Path) -> list[Path]:
    """Return the image files below a folder, sorted, without hidden files."""
    return sorted(
        p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS and not p.name.startswith(".") and p.is_file()
    )


def read_folder(folder: Path, class_names: list[str], size: int, description: str) -> RawSplit:
    """Read a split from class folders.

    Args:
        folder: holds a folder for each class.
        class_names: names of these folders, in the order of the labels.
        size: side in pixels to which images are resized and cropped.
        description: shown beside the progress bar.

    Raises:
        InputError: no class folder, other class folders, or a class without images.
    """
    if not class_names:
        raise InputError(f"{folder}: contains no class folder")
    folders = class_folders(folder)
    if folders != sorted(class_names):
        odd = sorted(set(folders) ^ set(class_names))
        raise InputError(f"{folder}: its class folders differ from those of the training images: {', '.join(odd[:5])}")
    paths, labels = [], []
    for label, name in enumerate(class_names):
        files = image_files(folder / name)
        if not files:
            raise InputError(f"{folder / name}: contains no image")
        paths += files
        labels += [label] * len(files)
    return RawSplit(labels, decode_all(paths, size, description), (3, size, size))
