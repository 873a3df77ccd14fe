"""Read an image and its mask at full size.

Each is turned as its own EXIF orientation says, so a mask without orientation must fit the turned image.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile

from stkd_lightning.data.decode import UnreadableImageError, load_turned, opened, rgb
from stkd_lightning.utilities.errors import InputError

MODES = {"1", "L", "P", "I;16", "I"}  # of a PNG with one value a pixel; "I": 16 bits in older versions of Pillow
STRETCHED = {"L;2": 85, "L;4": 17}  # Pillow stretches gray values of 2 and 4 bits to the range of 8 bits
SIDEWAYS = {5, 6, 7, 8}  # orientations that exchange height and width


class Header(NamedTuple):
    """Height and width in pixels of an image as it is read, and its EXIF orientation; 1: it is not turned."""

    height: int
    width: int
    orientation: int


def image_header(path: Path) -> Header:
    """Return size and orientation of an image file; its pixels are decoded only if it lies on its side.

    Raises:
        UnreadableImageError: the file is not an image.
    """
    with opened(path) as file:
        return _header(file, path)


def mask_header(path: Path) -> Header:
    """Return size and orientation of a mask file.

    Raises:
        InputError: as ``read_mask``, without the values.
    """
    with _opened_mask(path) as file:
        return _header(file, path)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image file as RGB ``(3, h, w)`` uint8.

    Raises:
        UnreadableImageError: as ``decode.decode``.
    """
    with opened(path) as file:
        return np.asarray(rgb(file, path)).transpose(2, 0, 1)


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Read the values ``(h, w)`` uint8 of an index or palette PNG; the colours of a palette are not read.

    Raises:
        InputError: the file cannot be read, is no PNG, has several values a pixel, or has a value above 255.
    """
    with _opened_mask(path) as file:
        raw_mode = str(file.tile[0][3]) if isinstance(file, ImageFile.ImageFile) else ""
        load_turned(file, path)
        values = np.asarray(file)
        if values.max() > 255:
            raise ValueError(f"value {values.max()}, but classes are at most 254 and the ignored value 255")
        return values.astype(np.uint8) // np.uint8(STRETCHED.get(raw_mode, 1))


def _header(file: Image.Image, path: Path) -> Header:
    orientation = 1
    with suppress(Exception):  # an orientation that cannot be read
        # The method of the base class reads the header only; that of a PNG also decodes the pixels.
        orientation = Image.Image.getexif(file).get(ExifTags.Base.Orientation, 1)
    if orientation in SIDEWAYS:  # versions of Pillow differ in the size before decoding
        load_turned(file, path)
    return Header(file.height, file.width, orientation)


@contextmanager
def _opened_mask(path: Path) -> Iterator[Image.Image]:
    """Open a mask file without decoding it; errors name it as a mask."""
    try:
        with opened(path) as file:
            if file.format != "PNG":
                raise ValueError(f"a {file.format} file; a mask must be a PNG, which keeps each value")
            if file.mode not in MODES:
                raise ValueError(
                    f"its pixels are {file.mode} colours; a mask needs one class index a pixel, a PNG of mode L or P"
                )
            yield file
    except UnreadableImageError as error:
        raise InputError(f"mask {path}: cannot be read ({error.words}); replace it") from error
