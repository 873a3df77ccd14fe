"""A share of the training images: drawn class by class, while the validation images stay."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stkd_lightning.data.datasets.digits import DigitsDataModule
from stkd_lightning.data.datasets.synthetic_sounds import SyntheticSoundsDataModule
from stkd_lightning.data.mask_module import MaskDataModule
from stkd_lightning.utilities.errors import InputError


def drawn(**options: Any) -> list[int]:
    """Return the positions of the training images."""
    return list(DigitsDataModule(**{"batch_size": 1} | options).train_dataloader().indices)


def held_out(**options: Any) -> list[int]:
    loader = DigitsDataModule(**options).val_dataloader()
    assert not isinstance(loader, list)
    return list(loader.indices)


def counts(positions: Sequence[int]) -> list[int]:
    labels = DigitsDataModule().arrays.splits["train"].labels.numpy()
    return list(np.bincount(labels[positions], minlength=10))


@settings(max_examples=25, deadline=None)
@given(fraction=st.floats(0.02, 1), seed=st.integers(0, 2**32 - 1))
def test_each_class_keeps_its_share(fraction: float, seed: int) -> None:
    every, share = drawn(), drawn(train_fraction=fraction, seed=seed)
    assert set(share) <= set(every)
    for kept, images in zip(counts(share), counts(every), strict=True):
        assert kept == max(1, round(fraction * images))


def test_validation_images_do_not_depend_on_it() -> None:
    assert held_out() == held_out(train_fraction=0.1, train_seed=3) == held_out(train_fraction=0.5, seed=4)
    assert not set(held_out()) & set(drawn(train_fraction=0.5))


def test_the_seed_of_the_run_draws_it_unless_it_has_its_own() -> None:
    assert drawn(train_fraction=0.1, seed=1) == drawn(train_fraction=0.1, seed=2, train_seed=1)
    assert drawn(train_fraction=0.1, seed=1) != drawn(train_fraction=0.1, seed=2)
    assert drawn(seed=1) == drawn(seed=2, train_seed=3)  # all images


def test_a_class_keeps_an_image() -> None:
    assert counts(drawn(train_fraction=1e-6)) == [1] * 10


def test_clips() -> None:
    data = SyntheticSoundsDataModule(train_fraction=0.1)
    every = SyntheticSoundsDataModule().train_dataloader().indices
    assert len(data.train_dataloader().indices) == round(0.1 * len(every))


def test_images_for_validation_of_their_own_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    data = DigitsDataModule(train_fraction=0.1, batch_size=1)
    splits = data.arrays.splits
    monkeypatch.setitem(splits, "val", splits["test"])
    assert len(data.train_dataloader().indices) == sum(
        max(1, round(0.1 * n)) for n in counts(range(splits["train"].samples))
    )
    assert data.image_counts["validation"] == splits["test"].samples


@pytest.mark.parametrize("value", [0, -0.1, 1.5, float("nan"), True, "half"])
def test_a_share_outside_its_range_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"dataset.train_fraction=.*above 0 and at most 1"):
        DigitsDataModule(train_fraction=value)


def test_masks_have_their_own_option() -> None:
    class Masks(MaskDataModule):
        locate = stamps = read = None  # type: ignore[assignment]

    with pytest.raises(InputError, match=r"set dataset.train_images"):
        Masks(train_fraction=0.5)
