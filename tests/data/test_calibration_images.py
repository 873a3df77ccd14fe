"""Images that calibrate a quantized file: of the training, spread over the classes, always the same."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stkd_lightning.data.datasets.digits import DigitsDataModule
from stkd_lightning.data.datasets.synthetic_sounds import SyntheticSoundsDataModule
from stkd_lightning.data.holdout import spread


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=60), count=st.integers(1, 80))
def test_spread_gives_each_class_its_share(labels: list[int], count: int) -> None:
    chosen = spread(np.array(labels), count)
    assert sorted(set(chosen.tolist())) == chosen.tolist()
    assert len(chosen) == min(count, len(labels))
    for label in set(labels):
        share = labels.count(label) * len(chosen) / len(labels)
        assert abs(sum(labels[i] == label for i in chosen) - share) <= 1


@pytest.mark.parametrize("count", [10, 100, 10**6])
def test_calibration_images_are_plain_training_images(count: int) -> None:
    data = DigitsDataModule(seed=3)
    loader, again = (each.calibration_dataloader(count) for each in (data, DigitsDataModule(seed=4)))
    training = data.plain_train_dataloader()
    assert len(loader.indices) == min(count, len(training.indices))
    assert set(loader.indices) <= set(training.indices)
    assert np.array_equal(loader.indices, again.indices)
    split = data.arrays.splits["train"]
    images = torch.cat([batch.images for batch in loader])
    assert torch.equal(images, data.normalize(split.inputs[torch.from_numpy(loader.indices)]))
    classes = np.bincount(split.labels.numpy()[loader.indices], minlength=10)
    every = np.bincount(split.labels.numpy()[training.indices], minlength=10)
    assert np.abs(classes - every * len(loader.indices) / len(training.indices)).max() <= 1


def test_calibration_clips_are_spread_over_the_split() -> None:
    data = SyntheticSoundsDataModule()
    chosen = data.calibration_dataloader(8).indices
    assert set(chosen) <= set(data.plain_train_dataloader().indices)
    assert np.diff(chosen).min() > len(data.plain_train_dataloader().indices) // 8 - 2
