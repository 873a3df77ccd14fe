"""Images and masks are read at full size, with the values that their files hold."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stkd_lightning.data.decode import UnreadableImageError
from stkd_lightning.data.masks import image_header, mask_header, read_image, read_mask
from stkd_lightning.utilities.errors import InputError
from tests.data.mask_files import write_gray_png, write_image, write_mask

VALUES = np.arange(4 * 8, dtype=np.uint8).reshape(4, 8)


def test_image_is_read_at_full_size(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", 5, 9)
    pixels = read_image(tmp_path / "a.png")
    assert np.array_equal(pixels, np.asarray(Image.open(tmp_path / "a.png")).transpose(2, 0, 1))
    assert image_header(tmp_path / "a.png") == (5, 9, 1)


@pytest.mark.parametrize("palette", [False, True])
def test_mask_of_index_and_palette(palette: bool, tmp_path: Path) -> None:
    write_mask(tmp_path / "a.png", VALUES % 3, palette=palette)
    assert Image.open(tmp_path / "a.png").mode == ("P" if palette else "L")
    mask = read_mask(tmp_path / "a.png")
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, VALUES % 3)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_mask_of_few_bits_keeps_its_values(bits: int, tmp_path: Path) -> None:
    write_gray_png(tmp_path / "a.png", VALUES % 2**bits, bits)
    assert np.array_equal(read_mask(tmp_path / "a.png"), VALUES % 2**bits)


def test_mask_of_sixteen_bits(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.png", VALUES.astype(np.uint16) * 8)
    assert np.array_equal(read_mask(tmp_path / "a.png"), VALUES * 8)
    write_mask(tmp_path / "a.png", VALUES.astype(np.uint16) * 9)
    with pytest.raises(InputError, match="mask .*a.png: cannot be read .value 279, but classes are at most 254"):
        read_mask(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        ("a.png", "RGB", "its pixels are RGB colours; a mask needs one class index a pixel, a PNG of mode L or P"),
        ("a.png", "RGBA", "its pixels are RGBA colours; a mask needs one class index a pixel"),
        ("a.png", "LA", "its pixels are LA colours; a mask needs one class index a pixel"),
        ("a.jpg", "L", "a JPEG file; a mask must be a PNG, which keeps each value"),
    ],
)
def test_mask_of_colours_is_refused(name: str, mode: str, words: str, tmp_path: Path) -> None:
    Image.fromarray(VALUES).convert(mode).save(tmp_path / name)
    for read in (read_mask, mask_header):
        with pytest.raises(InputError) as caught:
            read(tmp_path / name)
        assert str(caught.value).startswith(f"mask {tmp_path / name}: cannot be read ({words}")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(InputError, match=r"^mask .*/a.png: cannot be read \(damaged or not an image\); replace it$"):
        read_mask(tmp_path / "a.png")
    with pytest.raises(UnreadableImageError, match=r"^image .*/a.png: cannot be read \(damaged"):
        read_image(tmp_path / "a.png")
    write_mask(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (40, 50)))
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    assert mask_header(tmp_path / "a.png")[:2] == (40, 50)
    with pytest.raises(InputError, match="mask .*/a.png: cannot be read"):
        read_mask(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_header_has_the_size_of_the_turned_image(orientation: int, kind: str, tmp_path: Path) -> None:
    write_image(tmp_path / f"a.{kind}", 6, 10, orientation=orientation)
    header = image_header(tmp_path / f"a.{kind}")
    assert header == (*((10, 6) if orientation >= 5 else (6, 10)), orientation)
    assert read_image(tmp_path / f"a.{kind}").shape == (3, *header[:2])


def test_mask_is_turned_by_its_own_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(VALUES).save(tmp_path / "a.png", exif=exif)
    assert mask_header(tmp_path / "a.png") == (8, 4, 6)
    assert np.array_equal(read_mask(tmp_path / "a.png"), np.rot90(VALUES, -1))
