"""Damaged and hostile masks: what is read is a mask, everything else is one line for the user."""

import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stkd_lightning.data.mask_pairs import Pair, read_pairs
from stkd_lightning.data.mask_values import MaskValues
from stkd_lightning.data.masks import image_header, mask_header, read_image, read_mask
from stkd_lightning.utilities.errors import InputError
from tests.data.mask_files import PALETTE, write_image, write_mask
from tests.faults.mutations import mutations, read
from tests.faults.test_hostile_files import png

VALUES = MaskValues({0: 0, 1: 1, 255: 255}, "set dataset.ignore_value={value}")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["index", "palette", "turned", "16 bits"])
def test_damaged_mask_is_one_line(kind: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 200, (20, 24))
    image = Image.fromarray(values.astype(np.uint16 if kind == "16 bits" else np.uint8))
    if kind == "palette":
        image.putpalette(PALETTE)
    exif = Image.Exif()
    if kind == "turned":
        exif[0x112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    path = tmp_path / "mask.png"
    for what, content in mutations(buffer.getvalue(), 100):
        path.write_bytes(content)
        read(what, lambda: mask_header(path))
        mask = read(what, lambda: read_mask(path))
        if not isinstance(mask, InputError):
            assert mask.dtype == np.uint8, what
            assert mask.ndim == 2, what


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_damaged_image_has_the_size_of_its_header(kind: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x112] = 6
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, exif=exif)
    path = tmp_path / "image.png"
    for what, content in mutations(buffer.getvalue(), 60):
        path.write_bytes(content)
        header = read(what, lambda: image_header(path))
        image = read(what, lambda: read_image(path))
        if not isinstance(image, InputError):
            assert not isinstance(header, InputError), what
        samples = read(what, lambda: list(read_pairs([Pair(path, None)], VALUES, "images").samples))
        if not isinstance(samples, InputError):
            assert samples[0][0].shape == (3, *header[:2]), what
            assert np.array_equal(samples[0][0], image), what


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("sides", [(10_000, 9_000), (100_000, 100_000), (10, 0)])
def test_mask_of_too_many_pixels_is_refused(sides: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(*sides))
    write_image(tmp_path / "b.png", 4, 4)
    write_mask(tmp_path / "c.png", np.zeros((4, 4)))
    for names in (("a.png", "a.png"), ("a.png", "c.png"), ("b.png", "a.png"), ("a.png", None)):
        pair = Pair(tmp_path / str(names[0]), None if names[1] is None else tmp_path / names[1])
        reader = partial(lambda pair: list(read_pairs([pair], VALUES, "images").samples), pair)
        assert isinstance(read(str(names), reader), InputError)
