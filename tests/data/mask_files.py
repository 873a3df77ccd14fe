"""Small image and mask files, written as data sets have them."""

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

PALETTE = [level for index in range(256) for level in (index, 37 * index % 256, 255 - index)]


def write_image(path: Path, height: int, width: int, *, orientation: int | None = None, seed: int = 0) -> None:
    """Write random colours, with an EXIF orientation if it is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


def write_mask(path: Path, values: ArrayLike, *, palette: bool = False) -> None:
    """Write a mask of one value a pixel, as an index or a palette PNG; 16 bits for uint16 values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.asarray(values)
    image = Image.fromarray(array if array.dtype == np.uint16 else array.astype(np.uint8))
    if palette:
        image.putpalette(PALETTE)
    image.save(path)


def write_gray_png(path: Path, values: ArrayLike, bits: int) -> None:
    """Write a gray PNG of 1, 2 or 4 bits, which Pillow does not write; a row must fill whole bytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    array = np.asarray(values)
    height, width = array.shape
    rows = ["".join(f"{value:0{bits}b}" for value in row) for row in array.tolist()]
    content = b"".join(b"\0" + int(row, 2).to_bytes(len(row) // 8, "big") for row in rows)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b""))
