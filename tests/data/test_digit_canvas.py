import numpy as np
import pytest

from stkd_lightning.data import DigitCanvasDataModule
from stkd_lightning.data.arrays import MaskedSplit
from stkd_lightning.data.datasets.digit_canvas import _sources
from stkd_lightning.utilities.errors import InputError


def split_of(name: str, **options: int) -> MaskedSplit:
    split = DigitCanvasDataModule(canvases=40, test_canvases=20, **options).arrays.splits[name]
    assert isinstance(split, MaskedSplit)
    return split


def test_canvases_hold_digits_on_textures() -> None:
    data = DigitCanvasDataModule()
    assert {name: split.samples for name, split in data.arrays.splits.items()} == {"train": 1200, "test": 300}
    assert data.class_names == ("background", *"0123456789")
    assert data.input_shape == (3, 64, 64)
    assert not data.flip
    for name in ("train", "test"):
        split = data.arrays.splits[name]
        assert isinstance(split, MaskedSplit)
        pixels = np.bincount(split.labels, minlength=256)
        assert pixels[11:].sum() == 0
        assert pixels[1:11].min() > 0.01 * pixels.sum()
        assert 0.6 < pixels[0] / pixels.sum() < 0.8
    digits = split.images.view(-1, 3, 64, 64).float().mean(1)[split.labels.view(-1, 64, 64) > 0]
    ground = split.images.view(-1, 3, 64, 64).float().mean(1)[split.labels.view(-1, 64, 64) == 0]
    assert digits.mean() > ground.mean() + 60


def test_canvases_are_a_function_of_their_seed() -> None:
    first, again, other = (split_of("train", canvas_seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, other.images)
    more = DigitCanvasDataModule(canvases=50, test_canvases=20).arrays.splits["train"]
    assert np.array_equal(more.images[: len(first.images)], first.images)


def test_canvases_of_train_and_test_share_nothing() -> None:
    train, test = _sources().values()
    kept = {digit.tobytes() for digit in train.digits}
    assert len(train.digits) + len(test.digits) == 1797
    assert not any(digit.tobytes() in kept for digit in test.digits)
    for one, other in zip(train.photographs, test.photographs, strict=True):
        assert one.shape[1] + other.shape[1] == 640
        assert not np.shares_memory(one, other)


def test_canvases_need_a_number() -> None:
    with pytest.raises(InputError, match="dataset.canvases=0: must be a whole number of at least 2"):
        DigitCanvasDataModule(canvases=0)
