"""Pairs of image and mask are checked before training; each error is one line."""

from pathlib import Path

import numpy as np
import pytest

from stkd_lightning.data.mask_pairs import Pair, check_exist, pair_up, read_pairs
from stkd_lightning.data.mask_values import MaskValues
from stkd_lightning.utilities.errors import InputError
from tests.data.mask_files import write_image, write_mask

VALUES = MaskValues({0: 0, 1: 1, 255: 255}, "set dataset.ignore_value={value}")
SIZES = [(5, 7), (8, 6), (5, 7)]


def made(folder: Path, sizes: list[tuple[int, int]]) -> list[Pair]:
    pairs = []
    for i, (height, width) in enumerate(sizes):
        pair = Pair(folder / f"{i}.jpg", folder / f"{i}.png")
        write_image(pair.image, height, width, seed=i)
        mask = np.random.default_rng(i).integers(0, 2, (height, width))
        mask[0, 0] = 255
        write_mask(folder / f"{i}.png", mask)
        pairs.append(pair)
    return pairs


def refusal(pairs: list[Pair]) -> str:
    with pytest.raises(InputError) as caught:
        list(read_pairs(pairs, VALUES, "train images").samples)
    return str(caught.value)


def test_pairs_of_unequal_sizes(tmp_path: Path) -> None:
    split = read_pairs(made(tmp_path, SIZES), VALUES, "train images")
    assert split.sizes.tolist() == [list(size) for size in SIZES]
    for (image, mask), size in zip(split.samples, SIZES, strict=True):
        assert (image.shape, mask.shape) == ((3, *size), size)
        assert mask[0, 0] == 255
        assert mask.ravel()[1:].max() == 1


def test_unlabelled_image_is_ignored_everywhere(tmp_path: Path) -> None:
    pairs = [pair._replace(mask=None) for pair in made(tmp_path, SIZES)]
    for (_, mask), size in zip(read_pairs(pairs, VALUES, "train").samples, SIZES, strict=True):
        assert (mask == 255).all()
        assert mask.shape == size


def test_mask_of_another_size_is_refused_at_once(tmp_path: Path) -> None:
    pairs = made(tmp_path, SIZES)
    write_mask(tmp_path / "1.png", np.zeros((6, 8)))
    with pytest.raises(InputError) as caught:
        read_pairs(pairs, VALUES, "train images")
    assert str(caught.value) == (
        f"image {tmp_path}/1.jpg: 6 x 8 pixels, but its mask {tmp_path}/1.png has 8 x 6; save both at one size"
    )


def test_mask_must_fit_the_turned_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = made(tmp_path, SIZES)
    write_image(tmp_path / "1.jpg", 6, 8, orientation=6)  # seen, it is 8 high and 6 wide, as its mask
    split = read_pairs(pairs, VALUES, "train images")
    assert split.sizes.tolist() == [list(size) for size in SIZES]
    assert (
        "train images: 1 turned as its EXIF orientation says; its mask must fit the turned image"
        in capsys.readouterr().out
    )
    write_mask(tmp_path / "1.png", np.zeros((6, 8)))
    assert refusal(pairs).startswith(
        f"image {tmp_path}/1.jpg: 6 x 8 pixels as its EXIF orientation 6 turns it, but its mask"
    )


def test_foreign_value_names_the_file(tmp_path: Path) -> None:
    pairs = made(tmp_path, SIZES)
    write_mask(tmp_path / "2.png", np.full((5, 7), 12))
    assert refusal(pairs) == (
        f"mask {tmp_path}/2.png: value 12 in 35 of 35 pixels, but classes are 0 to 1 and ignored is 255; "
        "set dataset.ignore_value=12"
    )


def test_mask_without_any_class_is_refused(tmp_path: Path) -> None:
    pairs = made(tmp_path, SIZES)
    write_mask(tmp_path / "0.png", np.full((5, 7), 255))
    assert refusal(pairs) == (
        f"mask {tmp_path}/0.png: all its pixels are ignored; label it, or delete this mask and its image"
    )


def test_damaged_files_are_named_together(tmp_path: Path) -> None:
    pairs = made(tmp_path, [(40, 50)] * 5)
    for name in ("1.jpg", "3.png"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) * 4 // 5])
    words = refusal(pairs)
    assert words.startswith("train images: several files are refused: ")
    assert f"image {tmp_path}/1.jpg: cannot be read (" in words
    assert f"mask {tmp_path}/3.png: cannot be read (" in words
    assert "later files" not in words


def test_many_refused_files_are_not_all_listed(tmp_path: Path) -> None:
    pairs = made(tmp_path, SIZES * 2)
    for pair in pairs:
        write_mask(tmp_path / f"{pair.image.stem}.png", np.full((3, 3), 1))
    words = refusal(pairs)
    assert words.count("save both at one size") == 3
    assert words.endswith("; later files are not checked")


def test_exif_behind_the_pixels_is_refused(tmp_path: Path) -> None:
    pairs = made(tmp_path, SIZES)
    write_image(tmp_path / "1.png", 6, 8, orientation=6)
    content = (tmp_path / "1.png").read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    moved = content[:start] + content[end:-12] + content[start:end] + content[-12:]
    (tmp_path / "a.png").write_bytes(moved)
    write_mask(tmp_path / "b.png", np.zeros((6, 8)))
    words = f"image {tmp_path}/a.png: its EXIF orientation is behind its pixels; save it again"
    assert refusal([*pairs[:1], Pair(tmp_path / "a.png", tmp_path / "b.png")]) == words


def test_class_without_a_pixel_is_warned_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = made(tmp_path, SIZES)
    list(read_pairs(pairs, VALUES, "train images", ["ground", "road"]).samples)
    assert "no pixel" not in capsys.readouterr().out
    for i, size in enumerate(SIZES):
        write_mask(tmp_path / f"{i}.png", np.zeros(size))
    list(read_pairs(pairs, VALUES, "train images", ["ground", "road"]).samples)
    assert "train images: no pixel of class road" in capsys.readouterr().out


def test_files_without_partner_are_counted() -> None:
    paths = {str(i): Path(f"/data/images/{i}.png") for i in range(6)}
    some = {key: path for key, path in paths.items() if key in "05"}
    assert pair_up(some, some, "") == [Pair(path, path) for path in some.values()]
    with pytest.raises(InputError) as caught:
        pair_up(paths, some, "each image needs a mask")
    assert str(caught.value) == (
        "image without mask: /data/images/1.png, 2.png, 3.png and 1 more; each image needs a mask"
    )
    with pytest.raises(InputError, match="mask without image: /data/images/1.png, 2.png, 3.png and 1 more; "):
        pair_up(some, paths, "each image needs a mask")


def test_listed_files_must_exist(tmp_path: Path) -> None:
    pairs = made(tmp_path, SIZES)
    check_exist(pairs, "copy it")
    (tmp_path / "1.png").unlink()
    with pytest.raises(InputError, match=rf"^missing: {tmp_path}/1.png; copy it$"):
        check_exist([*pairs, pairs[0]._replace(mask=None)], "copy it")
