"""Data modules of images with masks: preparation, batches, splits and refusals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stkd_lightning.data import RawData, RawMasks
from stkd_lightning.data.arrays import MaskedSplit
from stkd_lightning.data.integrity import is_intact
from stkd_lightning.data.mask_module import median_frequency_weights
from stkd_lightning.data.open_arrays import open_arrays
from stkd_lightning.data.prepare import prepare
from stkd_lightning.tasks import Segmentation
from stkd_lightning.utilities.errors import InputError
from tests.tasks.squares import CLASSES, SquaresDataModule, samples

UNEQUAL = np.array([[16, 24], [20, 18], [13, 31]])


def data(folder: Path, **options: Any) -> SquaresDataModule:
    return SquaresDataModule(folder / "data", cache_dir=folder / "cache", **options)


def raw(sizes: Any = UNEQUAL) -> RawData:
    return RawData({s: RawMasks(sizes, samples(sizes, i)) for i, s in enumerate(("train", "test"))}, CLASSES)


def test_images_and_masks_are_prepared_as_they_are_read(tmp_path: Path) -> None:
    arrays = prepare(tmp_path / "set", raw)
    for i, name in enumerate(("train", "test")):
        split = arrays.splits[name]
        assert isinstance(split, MaskedSplit)
        assert split.samples == 3
        assert split.sizes.tolist() == UNEQUAL.tolist()
        for j, (image, mask) in enumerate(samples(UNEQUAL, i)):
            assert np.array_equal(split.image(j), image)
            assert np.array_equal(split.mask(j), mask)
    pixels = np.concatenate([image.reshape(3, -1) for image, _ in samples(UNEQUAL, 0)], axis=1) / 255
    np.testing.assert_allclose(arrays.mean, pixels.mean(1))
    np.testing.assert_allclose(arrays.std, pixels.std(1))
    assert is_intact(open_arrays(arrays.folder))
    assert prepare(tmp_path / "set", lambda: pytest.fail("read again")).digest == arrays.digest


def test_the_digest_covers_sizes_and_masks(tmp_path: Path) -> None:
    one = np.array([[16, 24]])

    def digest(name: str, sizes: Any, change: int = 0) -> str:
        changed = [(image, (mask + change) % 3) for image, mask in samples(one, 0)]
        shaped = [tuple(part.reshape(*part.shape[:-2], *sizes[0]) for part in pair) for pair in changed]
        splits = {name: RawMasks(sizes, shaped) for name in ("train", "test")}
        return prepare(tmp_path / name, lambda: RawData(splits, CLASSES)).digest

    assert len({digest("a", one), digest("b", one, 1), digest("c", np.array([[24, 16]]))}) == 3


@pytest.mark.parametrize("damage", ["sizes", "masks", "short"])
def test_damaged_masks_are_prepared_again(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = prepare(tmp_path / "set", raw)
    for path in first.folder.iterdir():
        path.chmod(0o644)
    facts, masks = first.folder / "facts.json", first.folder / "train_labels.npy"
    if damage == "sizes":
        content = json.loads(facts.read_text())
        content["sizes"]["train"][0] = [16, 25]
        facts.write_text(json.dumps(content))
    elif damage == "masks":
        masks.write_bytes(masks.read_bytes()[:-1] + b"\2")
    else:
        masks.write_bytes(masks.read_bytes()[:-1])
    assert prepare(tmp_path / "set", raw).digest == first.digest
    assert "cannot be used" in capsys.readouterr().out


@pytest.mark.parametrize("resident", [True, False])
def test_training_batches_are_equal_resident_and_from_workers(resident: bool, tmp_path: Path) -> None:
    options = {"crop": (12, 12), "scale": (0.5, 2.0), "colour": 0.3, "batch_size": 8, "unequal": True}
    one = data(tmp_path, resident=True, **options)
    other = data(tmp_path, resident=resident, workers=2, **options)
    batches = list(zip(one.train_dataloader(), other.train_dataloader(), strict=True))
    assert len(batches) == 3
    for left, right in batches:
        assert left.images.shape == (8, 3, 12, 12)
        assert left.labels.shape == (8, 12, 12)
        assert torch.equal(left.images, right.images)
        assert torch.equal(left.labels, right.labels)
        assert left.labels.dtype == torch.int64
        assert left.images.dtype == torch.float32


def test_epochs_show_other_samples_and_are_repeatable(tmp_path: Path) -> None:
    module = data(tmp_path, scale=(0.5, 2.0))
    loader = module.train_dataloader()
    first = next(iter(loader)).images
    assert torch.equal(next(iter(loader)).images, first)
    loader.set_epoch(1)
    assert not torch.equal(next(iter(loader)).images, first)


def test_evaluation_sees_whole_images_of_all_sizes(tmp_path: Path) -> None:
    module = data(tmp_path, unequal=True, crop=(8, 8), batch_size=4)
    module.prepare_data()
    loader = module.test_dataloader()
    seen: list[int] = []
    for batch in loader:
        assert batch.indices is not None
        assert len(batch.images) <= 4
        for i, image, mask in zip(batch.indices.tolist(), batch.images, batch.labels, strict=True):
            split = module.arrays.splits["test"]
            assert isinstance(split, MaskedSplit)
            assert torch.equal(mask, split.mask(i).long())
            mean, std = (torch.tensor(v)[:, None, None] for v in (module.mean, module.std))
            torch.testing.assert_close(image, (split.image(i) / 255 - mean) / std, atol=1e-5, rtol=1e-5)
            seen.append(i)
    assert sorted(seen) == list(range(8))
    assert sum(len(batch.labels) for batch in loader) == 8


def test_ranks_share_the_batches_of_an_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = data(tmp_path, batch_size=8)
    assert module.test_dataloader().batch_size == 8
    monkeypatch.setattr("stkd_lightning.data.mask_module.world", lambda: (0, 4))
    assert module.test_dataloader().batch_size == 2


def test_what_a_module_says_of_its_data(tmp_path: Path) -> None:
    module = data(tmp_path, window=[8, 8])
    assert module.task == Segmentation(tuple(CLASSES), None, (8, 8))
    assert module.input_shape == (3, 16, 24)
    assert module.image_size == (16, 24)
    assert module.num_classes == 3
    assert module.image_counts == {"validation": 8, "test": 8}
    assert data(tmp_path, crop=[8, 12], unequal=True).input_shape == (3, 8, 12)
    drawn = module.sample(5)
    assert len(drawn.order) == 5
    assert drawn[0].images.shape[1:] == (3, 16, 24)


def test_some_training_images_are_drawn_by_the_split_seed(tmp_path: Path) -> None:
    def kept(**options: Any) -> list[int]:
        loader = data(tmp_path, train_images=10, batch_size=5, **options).train_dataloader()
        return sorted(loader.indices.tolist())

    assert len(set(kept())) == 10
    assert kept() == kept(seed=4) != kept(split_seed=1)
    with pytest.raises(InputError, match="dataset.train_images=25: there are only 24 training images"):
        data(tmp_path, train_images=25).train_dataloader()


def test_balanced_weights_by_hand(tmp_path: Path) -> None:
    """Class 0: 3 of 4 pixels of image 0 and 2 of 4 of image 1, 5/8. Class 1: 1 of 4. Class 2: 2 of 4. Median 1/2."""
    masks = torch.tensor([0, 0, 0, 1, 0, 0, 2, 2], dtype=torch.uint8)
    split = MaskedSplit.of(torch.zeros(24, dtype=torch.uint8), masks, torch.full((2, 2), 2))
    weights = median_frequency_weights(split, np.array([0, 1]), 4)
    assert weights == pytest.approx([0.5 / (5 / 8), 0.5 / (1 / 4), 1.0, 1.0])
    balanced = data(tmp_path, class_weights="balanced").task.class_weights
    assert balanced is not None
    assert len(balanced) == 3
    assert balanced[0] < balanced[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crop": [8]}, r"dataset.crop=\[8\]: must be height and width in pixels, such as \[512,1024\]"),
        ({"crop": [4, 8]}, "dataset.crop=4: must be a whole number of at least 8; the nearest is 8"),
        ({"window": 8}, "dataset.window=8: must be height and width"),
        ({"scale": [2, 0.5]}, r"dataset.scale=\[2,0.5\]: the first must not be larger; the nearest is \[0.5,2\]"),
        ({"scale": [0.01, 2]}, "must be between 0.0625 and 16"),
        ({"colour": 1}, "dataset.colour=1: must be below 1"),
        ({"class_weights": "even"}, "dataset.class_weights=even: must be null, balanced or a list"),
        ({"class_weights": [0, 0, 0]}, "dataset.class_weights: a weight must be above 0"),
        ({"sampler": "class_uniform"}, "dataset.sampler=class_uniform: images with masks have no single class"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        data(tmp_path, **options)


def test_options_that_do_not_fit_the_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dataset.class_weights: has 2 weights, but squares has 3 classes"):
        _ = data(tmp_path, class_weights=[1, 2]).task
    with pytest.raises(InputError, match=r"dataset.crop=null: .* unequal sides, 13 to 20 high and 18 to 31 wide"):
        data(tmp_path, unequal=True).train_dataloader()


def test_odd_samples_are_refused(tmp_path: Path) -> None:
    image, mask = np.zeros((3, 8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    sizes = np.array([[8, 8]])
    for pairs, words in (
        ([(image, mask[:4])], "with mask"),
        ([(image, mask.astype(np.int64))], "not uint8"),
        ([], "0 images for 1 sizes"),
        ([(image, mask)] * 2, "1 written"),
    ):
        odd = RawData({"train": RawMasks(sizes, pairs)}, CLASSES)
        with pytest.raises(ValueError, match=words):
            prepare(tmp_path / "set", lambda odd=odd: odd)  # type: ignore[misc]


def test_resized_images_are_half_as_large(tmp_path: Path) -> None:
    """A mask takes the pixel in the middle of each field of 2x2, rounded down; an image its mean, nearly."""
    whole, half = (data(tmp_path, resize=factor, batch_size=4) for factor in (1, 0.5))
    assert half.input_shape == (3, 8, 12)
    assert half.arrays.digest != whole.arrays.digest
    for i in range(3):
        image, mask = whole.train_split.image(i), whole.train_split.mask(i)
        options = torch.stack([mask[row::2, column::2] for row in (0, 1) for column in (0, 1)])
        assert (options == half.train_split.mask(i)).any(0).all()
        means = torch.nn.functional.avg_pool2d(image[None].float(), 2)[0]
        assert float((half.train_split.image(i) - means).abs().mean()) < 12
    assert whole.options().keys() == {"unequal"}
    with pytest.raises(InputError, match="dataset.resize=2: must be at most 1; the nearest is 1"):
        data(tmp_path, resize=2)
