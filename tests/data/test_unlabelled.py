"""Unlabelled images that join the batches of labelled ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stkd_lightning.data import ImageFolderDataModule, loader
from stkd_lightning.data.datasets.digits import DigitsDataModule
from stkd_lightning.data.datasets.synthetic_sounds import SyntheticSoundsDataModule
from stkd_lightning.data.unlabelled import Unlabelled
from stkd_lightning.tasks.classification import Classification
from stkd_lightning.tasks.types import UNLABELLED, Batch
from stkd_lightning.utilities.errors import InputError
from tests.data.test_pictures import CROPS, SIDES, photo

FEW: dict[str, Any] = {"train_fraction": 0.1, "unlabeled_ratio": 3, "batch_size": 16}


def epoch(data: Any, number: int = 0) -> list[Batch]:
    batches = data.train_dataloader()
    batches.set_epoch(number)
    return [Batch(*batch) for batch in batches]


@settings(max_examples=50, deadline=None)
@given(pool=st.integers(1, 30), labelled=st.integers(1, 12), count=st.integers(1, 12), batches=st.integers(1, 6))
def test_joined_keeps_the_order_and_sees_all_equally_often(pool: int, labelled: int, count: int, batches: int) -> None:
    unlabelled = Unlabelled(np.arange(1000, 1000 + pool), count, seed=3)
    order = np.arange(batches * labelled).reshape(batches, labelled)
    epochs = [unlabelled.joined(order, number) for number in range(5)]
    seen = []
    for joined in epochs:
        assert joined.shape == (batches, labelled + count)
        assert np.array_equal(joined[joined < 1000].reshape(batches, -1), order)
        for batch in joined:
            for end in range(1, len(batch) + 1):  # any first part has its share of labelled images
                assert abs((batch[:end] < 1000).sum() - end * labelled / len(batch)) < 1
        seen += joined[joined >= 1000].tolist()
    times = np.bincount(np.array(seen) - 1000, minlength=pool)
    assert times.max() - times.min() <= 1
    assert np.array_equal(unlabelled.joined(order, 3), epochs[3])


def test_labels_of_the_rest_are_hidden() -> None:
    plain, data = DigitsDataModule(**FEW | {"unlabeled_ratio": 0}), DigitsDataModule(**FEW)
    assert (plain.task, data.task) == (Classification(), Classification(unlabelled=True))
    held_out = set(data.val_dataloader().indices)
    trained = set(data.train_dataloader().indices)
    for batch, without in zip(epoch(data), epoch(plain), strict=True):
        assert batch.indices is not None
        assert without.indices is not None
        assert len(batch.labels) == 64
        labelled = batch.labels != UNLABELLED
        assert torch.equal(batch.indices[labelled], without.indices)
        assert torch.equal(batch.labels[labelled], without.labels)
        assert torch.equal(batch.inputs[labelled], without.inputs)
        assert not set(batch.indices[~labelled].tolist()) & (held_out | trained)
    assert (data.arrays.splits["train"].labels >= 0).all()


def test_ranks_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = epoch(DigitsDataModule(**FEW)), []
    for rank in range(2):
        monkeypatch.setattr(loader, "world", lambda rank=rank: (rank, 2))
        parts.append(epoch(DigitsDataModule(**FEW)))
    for batch, *shares in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat([share.labels for share in shares]), batch.labels)
        assert [(share.labels != UNLABELLED).sum() for share in shares] == [8, 8]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unlabeled_ratio": 1}, "unlabeled_ratio=1.0: there are no unlabelled images; set dataset.unlabeled_dir"),
        ({"unlabeled_ratio": 0.01, "batch_size": 16}, "is no image of a batch of 16; the nearest is 0.0625"),
        ({"unlabeled_ratio": -1}, "dataset.unlabeled_ratio=-1"),
    ],
)
def test_a_ratio_without_images_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        DigitsDataModule(**options).train_dataloader()


def test_clips_are_refused() -> None:
    with pytest.raises(InputError, match="needs data with a class for each image, not tagging"):
        SyntheticSoundsDataModule(unlabeled_ratio=1, train_fraction=0.5).train_dataloader()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folders = {"photos/cat": 8, "photos/dog": 8, "photos/more": 5, "photos/more/deep": 4}
    for number, (name, count) in enumerate(folders.items()):
        for i in range(count):
            photo(tmp_path / name / f"{i}.jpg", SIDES[(i + number) % 4], 100 * number + i)
    return tmp_path / "photos"


def folder(photos: Path, **options: Any) -> ImageFolderDataModule:
    settings = {
        "image_size": 32, "batch_size": 4, "augment": CROPS, "cache_dir": photos.parent / "cache",
        "unlabeled_dir": photos / "more", "unlabeled_ratio": 0.5, "resident": True,
    }  # fmt: skip
    return ImageFolderDataModule(photos, **settings | options)


@pytest.mark.parametrize("storage", ["prepared", "streamed"])
def test_a_folder_of_unlabelled_images(photos: Path, storage: str) -> None:
    data = folder(photos, storage=storage)
    assert data.class_names == ("cat", "dog")
    assert data.arrays.splits["train"].labels.tolist().count(UNLABELLED) == 9
    for batch in epoch(data):
        assert batch.labels.shape == (6,)
        assert (batch.labels == UNLABELLED).sum() == 2
    without = epoch(folder(photos, storage=storage, unlabeled_ratio=0))
    assert all((batch.labels != UNLABELLED).all() for batch in without)
    for loader_ in (data.val_dataloader(), data.test_dataloader()):
        assert all((batch.labels != UNLABELLED).all() for batch in loader_)


def test_a_folder_that_holds_labelled_images_is_refused(photos: Path) -> None:
    for place, words in ((photos, "is a labelled image"), (photos / "none", "no such folder")):
        with pytest.raises(InputError, match=words):
            folder(photos, unlabeled_dir=place).prepare_data()
