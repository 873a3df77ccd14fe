"""Image files of every kind become the same 8-bit pixels."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, features

from stkd_lightning.data.decode import UnreadableImageError, decode

SIZE = 8
LEVELS = np.arange(SIZE * SIZE).reshape(SIZE, SIZE) * 4  # 8 bits
DEEP = (LEVELS * 257).astype(np.uint16)


def tiff(path: Path, values: NDArray[np.generic], *, bits: int = 16, photometric: int = 1, kind: int = 1) -> None:
    """Write a gray TIFF of any type of values."""
    order = ">" if values.dtype.byteorder == ">" else "<"
    content = values.tobytes()
    tags = ((256, SIZE), (257, SIZE), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, SIZE),
            (279, len(content)), (339, kind))  # fmt: skip
    entries = b"".join(struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    head = (b"MM" if order == ">" else b"II") + struct.pack(order + "HI", 42, 8 + len(content))
    path.write_bytes(head + content + struct.pack(order + "H", len(tags)) + entries + bytes(4))


def png(path: Path, values: NDArray[np.uint16], colour: int) -> None:
    """Write a PNG of 16 bits; 2: colours, 4: gray with transparency."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    facts = struct.pack(">IIBBBBB", SIZE, SIZE, 16, colour, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", facts)
    path.write_bytes(head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


@pytest.mark.parametrize("name", ["deep.png", "deep.tif", "deep.pgm", "deep.jp2"])
def test_sixteen_bits_are_scaled(name: str, tmp_path: Path) -> None:
    Image.fromarray(DEEP).save(tmp_path / name)
    assert (decode(tmp_path / name, SIZE) == LEVELS).all()


def test_sixteen_bits_are_rounded(tmp_path: Path) -> None:
    values = np.arange(SIZE * SIZE, dtype=np.uint16).reshape(SIZE, SIZE) * 13 + 100
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert (decode(tmp_path / "deep.png", SIZE) == np.round(values / 257)).all()


def test_tiff_of_every_byte_order_and_depth(tmp_path: Path) -> None:
    path = tmp_path / "deep.tif"
    tiff(path, DEEP.astype(">u2"))
    assert (decode(path, SIZE) == LEVELS).all()
    tiff(path, DEEP, photometric=0)  # 0 is white
    assert (decode(path, SIZE) == 255 - LEVELS).all()
    twelve = np.full(SIZE * SIZE * 3 // 2, 255, dtype=np.uint8)
    twelve[:3] = (0x80, 0x00, 0x00)  # 2048 and 0
    tiff(path, twelve, bits=12)
    assert decode(path, SIZE)[0, 0, :3].tolist() == [128, 0, 255]


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_deep_colours_keep_their_upper_bits(colour: int, channels: int, tmp_path: Path) -> None:
    png(tmp_path / "deep.png", np.repeat(DEEP[:, :, None], channels, axis=2), colour)
    assert (decode(tmp_path / "deep.png", SIZE) == LEVELS).all()


def test_pgm_of_any_largest_value(tmp_path: Path) -> None:
    values = np.full((SIZE, SIZE), 511, dtype=">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5 8 8 1022\n" + values.tobytes())
    assert np.unique(decode(tmp_path / "a.pgm", SIZE)).tolist() == [128]


NO_RANGE = {
    "float": (np.float32, 32, 3),
    "32 bits": (np.uint32, 32, 1),
    "signed 16 bits": (np.int16, 16, 2),
    "signed 8 bits": (np.int8, 8, 2),
}


@pytest.mark.parametrize("name", NO_RANGE)
def test_values_without_range_are_refused(name: str, tmp_path: Path) -> None:
    kind, bits, sample = NO_RANGE[name]
    tiff(tmp_path / "a.tif", np.ones((SIZE, SIZE), dtype=kind), bits=bits, kind=sample)
    words = rf"image {tmp_path}/a.tif: cannot be read \(.* no known range; save it with 8 or 16 bits\); replace"
    with pytest.raises(UnreadableImageError, match=words):
        decode(tmp_path / "a.tif", SIZE)


def test_float_map_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ppm").write_bytes(b"Pf 8 8 -1.0\n" + np.ones((SIZE, SIZE), dtype="<f4").tobytes())
    with pytest.raises(UnreadableImageError, match="no known range"):
        decode(tmp_path / "a.ppm", SIZE)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_modes_of_eight_bits(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.png" if mode in ("1", "L", "LA", "P", "RGB", "RGBA") else "a.tif")
    if mode == "PA":
        path = tmp_path / "a.tif"
    black_and_white = Image.fromarray(np.kron([[0, 255]] * 2, np.ones((4, 4))).astype(np.uint8))
    image = black_and_white.convert("L").convert("RGB").convert(mode) if mode != "PA" else black_and_white
    image.save(path)
    pixels = decode(path, SIZE)
    assert pixels[:, :, :4].max() <= 1
    assert pixels[:, :, 4:].min() >= 254


def test_palette_with_transparency(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    image = Image.fromarray(np.kron([[0, 1]] * 2, np.ones((4, 4))).astype(np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.save(tmp_path / "a.png", transparency=b"\x00\x80")
    assert decode(tmp_path / "a.png", SIZE)[:, 0, [0, -1]].T.tolist() == [[255, 0, 0], [0, 0, 255]]


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_exif(orientation: int, kind: str, tmp_path: Path) -> None:
    if kind == "avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    corners = np.kron([[0, 80], [160, 250]], np.ones((16, 16))).astype(np.uint8)
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(corners).convert("RGB").save(tmp_path / f"a.{kind}", exif=exif)
    seen = decode(tmp_path / f"a.{kind}", 32)[0, [[4, 4], [28, 28]], [[4, 28], [4, 28]]].astype(int)
    turned = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: np.transpose,
              6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).T, 8: np.rot90}[orientation]  # fmt: skip
    assert abs(seen - turned(np.array([[0, 80], [160, 250]]))).max() < 12


def test_sixteen_bits_are_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(DEEP).save(tmp_path / "a.png", exif=exif)
    assert (decode(tmp_path / "a.png", SIZE) == np.rot90(LEVELS, -1)).all()


def test_damaged_exif_leaves_the_image(tmp_path: Path) -> None:
    Image.fromarray(LEVELS.astype(np.uint8)).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xffnothing")
    assert (decode(tmp_path / "a.png", SIZE) == LEVELS).all()


def test_format_is_read_by_content(tmp_path: Path) -> None:
    for kind in ("GIF", "BMP", "PPM", "WEBP", "JPEG2000", "TIFF"):
        Image.fromarray(LEVELS.astype(np.uint8)).convert("RGB").save(tmp_path / "a.jpg", kind, lossless=True)
        assert (decode(tmp_path / "a.jpg", SIZE) == LEVELS).all(), kind


def test_tga_is_read_by_its_ending_only(tmp_path: Path) -> None:
    for name in ("a.tga", "a.TGA"):
        Image.fromarray(LEVELS.astype(np.uint8)).save(tmp_path / name, "TGA")
        assert (decode(tmp_path / name, SIZE) == LEVELS).all()
    (tmp_path / "a.tga").rename(tmp_path / "a.png")
    with pytest.raises(UnreadableImageError, match="damaged or not an image"):
        decode(tmp_path / "a.png", SIZE)


@pytest.mark.parametrize("kind", ["EPS", "PCX", "ICNS", "SGI"])
def test_other_formats_are_refused(kind: str, tmp_path: Path) -> None:
    Image.fromarray(LEVELS.astype(np.uint8)).convert("RGB").resize((64, 64)).save(tmp_path / "a.png", kind)
    with pytest.raises(UnreadableImageError, match="damaged or not an image"):
        decode(tmp_path / "a.png", SIZE)
