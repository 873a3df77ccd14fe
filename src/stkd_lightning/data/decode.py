"""Decode one image file to 8-bit RGB; training and prediction read images only here."""

import hashlib
import math
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from stkd_lightning.utilities.errors import InputError, reason

# Pillow decodes these itself. It reads more formats, and passes PostScript to another program, Ghostscript.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF", "GIF", "AVIF", "JPEG2000")
TGA = ".tga"  # TGA files begin with no mark, so that only their ending tells
SHOWN = 10  # files in a message
MAX_PIXELS = 1 << 26  # a decoded image takes 4 bytes for each pixel, on every thread
MAX_SCANS = 100  # each scan of a JPEG goes over the whole image; encoders write about 10
MAX_SCANNED = 1 << 28  # bytes
CHUNK = 1 << 20  # bytes that are read at once
JPEG = ("JPEG", "MPO")
MARKER = re.compile(rb"\xff+([^\x00\x01\xff\xd0-\xd8])", re.DOTALL)  # of a JPEG's segment, with a length
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
ORIENTATION, TURNED = 0x0112, range(5, 9)  # tag of EXIF, and its values that swap height and width
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
UNSIGNED = {1, 4}  # values of SAMPLE_FORMAT; 4: not said


Box = tuple[float, float, float, float]  # first row and column, height and width, in pixels


class UnreadableImageError(InputError):
    """An image file that cannot be read.

    Args:
        path: of the file.
        words: the cause.
    """

    def __init__(self, path: Path, words: str) -> None:
        super().__init__(f"image {path}: cannot be read ({words}); replace or delete it")
        self.path, self.words = path, words

    def __reduce__(self) -> tuple[type["UnreadableImageError"], tuple[Path, str]]:
        return UnreadableImageError, (self.path, self.words)  # worker processes send it


def listed(errors: Sequence[UnreadableImageError]) -> str:
    """Return the first files that cannot be read with their causes, and the number of the others."""
    more = f"; and {len(errors) - SHOWN:,} more" if len(errors) > SHOWN else ""
    return "; ".join(f"{error.path} ({error.words})" for error in errors[:SHOWN]) + more


def decode(path: Path, size: int | tuple[int, int], side: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Decode an image file to ``(3, *size)`` uint8: resized to cover ``side``, then cropped to ``size`` at the centre.

    Both are one resampling. The image is turned as its EXIF orientation says. Values of more than 8 bits are scaled by
    the range of the format.

    Args:
        path: of the file.
        size: side in pixels, or height and width.
        side: height and width, not smaller than ``size``; ``None``: ``size``.

    Raises:
        UnreadableImageError: the file is not an image, is damaged or is too large, or its values have no known range.
    """
    height, width = (size, size) if isinstance(size, int) else size
    with opened(path) as file:
        image = rgb(file, path)
        if side in (None, (height, width)):
            if image.size != (width, height):
                image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
        else:
            box = central_box((image.height, image.width), (height, width), side)
            image = _part(image, box, (height, width))
        return np.asarray(image).transpose(2, 0, 1)


def central_box(sides: tuple[int, int], size: tuple[int, int], cover: tuple[int, int]) -> Box:
    """Return the central part of an image that is seen at ``size`` after the image is resized to cover ``cover``.

    Args:
        sides: height and width of the image.
        size: of the result.
        cover: not smaller than ``size``.
    """
    scale = min(sides[0] / cover[0], sides[1] / cover[1])
    height, width = (min(scale * part, side) for part, side in zip(size, sides, strict=True))
    return (sides[0] - height) / 2, (sides[1] - width) / 2, height, width


def decode_covering(path: Path, cover: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode an image file to ``(3, h, w)`` uint8, made smaller, but so that it covers a height and width.

    A JPEG is decoded at a reduced scale where that is enough.

    Raises:
        UnreadableImageError: as in ``decode``.
    """
    with opened(path) as file:
        check_cost(file, path)
        height, width = turned_sides(file)
        scale = max(cover[0] / height, cover[1] / width)
        _reduce(file, scale)
        image = _eight_bits(_turned(file)).convert("RGB")
        if scale < 1:
            size = max(cover[1], round(scale * width)), max(cover[0], round(scale * height))
            image = image.resize(size, Image.Resampling.BICUBIC)
        return np.asarray(image).transpose(2, 0, 1)


def decode_part(path: Path, sides: tuple[int, int], box: Box, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode a part of an image file to ``(3, *size)`` uint8; a JPEG at a reduced scale where the part stays as large.

    Args:
        path: of the file, whose cost was checked by ``size_and_digest``.
        sides: height and width of the image, turned.
        box: the part.
        size: height and width of the result.

    Raises:
        UnreadableImageError: as in ``decode``, or an image of other sides.
    """
    with opened(path) as file:
        if {file.height, file.width} != set(sides):
            raise ValueError(f"{' x '.join(map(str, sides[::-1]))} pixels before; it was changed during the run")
        _reduce(file, max(size[0] / box[2], size[1] / box[3]))
        image = _eight_bits(_turned(file)).convert("RGB")
        down, across = image.height / sides[0], image.width / sides[1]
        reduced = (down * box[0], across * box[1], down * box[2], across * box[3])
        return np.array(_part(image, reduced, size)).transpose(2, 0, 1)


def size_and_digest(path: Path) -> tuple[int, int, bytes]:
    """Return height and width of an image, turned as its EXIF orientation says, and a digest of its file.

    Raises:
        UnreadableImageError: the file is not an image, or takes very much memory or time to decode.
    """
    with opened(path) as file:
        check_cost(file, path)
        height, width = turned_sides(file)
        digest = hashlib.blake2b(digest_size=16)
        with path.open("rb") as content:
            while chunk := content.read(CHUNK):
                digest.update(chunk)
        return height, width, digest.digest()


def turned_sides(file: Image.Image) -> tuple[int, int]:
    """Return height and width of an opened image after it is turned as its EXIF orientation says.

    The head of a JPEG tells them. Other images are decoded, because the orientation may stand behind the pixels.
    """
    if file.format not in JPEG:
        image = _turned(file)
        return image.height, image.width
    orientation = None
    with suppress(Exception):  # an orientation that cannot be read
        orientation = file.getexif().get(ORIENTATION)
    return (file.width, file.height) if orientation in TURNED else (file.height, file.width)


def _part(image: Image.Image, box: Box, size: tuple[int, int]) -> Image.Image:
    """Return a part of an image, resized to height and width; no pixel outside of it is mixed into its edge."""
    top, left = max(0.0, box[0]), max(0.0, box[1])
    bottom, right = min(top + box[2], image.height), min(left + box[3], image.width)
    first_row, first_column = math.floor(top), math.floor(left)
    part = image.crop((first_column, first_row, math.ceil(right), math.ceil(bottom)))
    inner = (left - first_column, top - first_row, right - first_column, bottom - first_row)
    return part.resize(size[::-1], Image.Resampling.BICUBIC, box=inner)


def _reduce(file: Image.Image, scale: float) -> None:
    """Let a JPEG be decoded at a half, a quarter or an eighth of its sides, but not below a scale of them."""
    if file.format == "JPEG" and scale < 1:
        file.draft(None, (math.ceil(scale * file.width), math.ceil(scale * file.height)))


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file without decoding it, for a block in which every fault is one of the file.

    Raises:
        UnreadableImageError: the file is not an image, or the block raised an error.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would block
            raise ValueError("not a regular file")
        formats = (*_formats(), "TGA") if path.suffix.lower() == TGA else _formats()
        with Image.open(path, formats=formats) as file:
            yield file
    except Exception as error:  # Pillow raises many types for a damaged file
        words = getattr(error, "strerror", None) or reason(error)
        if str(path) in words or words.startswith("cannot identify"):
            words = "damaged or not an image"
        raise UnreadableImageError(path, words) from error


def load_turned(file: Image.Image, path: Path) -> None:
    """Decode an opened image and turn it as its EXIF orientation says.

    Raises:
        ValueError: too many pixels or scans.
    """
    check_cost(file, path)
    _turned(file)


def _turned(file: Image.Image) -> Image.Image:
    """Decode an opened image, turn it as its EXIF orientation says, and return it."""
    file.load()
    with suppress(Exception):  # an orientation that cannot be read
        ImageOps.exif_transpose(file, in_place=True)
    return file


def rgb(file: Image.Image, path: Path) -> Image.Image:
    """Decode an opened image at full size to 8-bit RGB, turned as its EXIF orientation says.

    Raises:
        ValueError: too many pixels or scans, or values without known range.
    """
    load_turned(file, path)
    return _eight_bits(file).convert("RGB")


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats that this Pillow has; an older one lacks AVIF."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def check_cost(file: Image.Image, path: Path) -> None:
    """Refuse a small file that takes very much memory or time to decode.

    Raises:
        ValueError: too many pixels or scans.
    """
    if file.width * file.height > MAX_PIXELS:
        raise ValueError(f"{file.width} x {file.height} pixels; at most {MAX_PIXELS:,} are read")
    if file.format in JPEG and _scans(path) > MAX_SCANS:
        raise ValueError(f"a JPEG of more than {MAX_SCANS} scans; save it again")


def _scans(path: Path) -> int:
    """Return the number of scans of a JPEG, counted to one more than ``MAX_SCANS``."""
    with path.open("rb") as file:
        content = file.read(MAX_SCANNED)
    scans, position = 0, 2
    while scans <= MAX_SCANS and (found := MARKER.search(content, position)):
        marker, position = found[1][0], found.end()
        if marker == END_OF_IMAGE:  # thumbnails and videos may follow
            break
        scans += marker == START_OF_SCAN
        position += int.from_bytes(content[position : position + 2], "big")
    return scans


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return an image whose values have 8 bits; gray values of 16 bits are divided by 257 and rounded.

    Pillow itself reduces colours of 16 bits to their upper 8 bits, which differs by one level at most.

    Raises:
        ValueError: its values have no known range.
    """
    tags = getattr(image, "tag_v2", {})  # of TIFF
    if not UNSIGNED.issuperset(tags.get(SAMPLE_FORMAT, (1,))):
        raise ValueError("signed or floating-point values have no known range; save it with 8 or 16 bits")
    if not image.mode.startswith(("I", "F")):
        return image
    if image.mode in ("I", "F") and not (image.mode == "I" and image.format in ("PNG", "PPM")):  # those have 16 bits
        raise ValueError("values of 32 bits have no known range; save it with 8 or 16 bits")
    largest = (1 << tags.get(BITS, (16,))[0]) - 1
    values = np.asarray(image).astype(np.uint32)
    if tags.get(PHOTOMETRIC) == 0:  # 0 is white, which Pillow heeds up to 8 bits only
        values = largest - values
    return Image.fromarray(((values * 255 + largest // 2) // largest).astype(np.uint8))
