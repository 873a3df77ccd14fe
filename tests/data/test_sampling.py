import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stkd_lightning.data import ArrayDataModule, CIFAR100DataModule, DigitsDataModule, ImageFolderDataModule, loader
from stkd_lightning.data.sampling import group_number, shuffled, uniform
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.random import generator
from tests.data.conftest import picture


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    """Groups of at least a share each, in any order of samples, and a number of them for each batch."""
    share = draw(st.integers(1, 5))
    sizes = draw(st.lists(st.integers(share, 4 * share + 3), min_size=1, max_size=8))
    groups = np.array(draw(st.permutations(np.repeat(np.arange(len(sizes)), sizes).tolist())))
    number = draw(st.integers(1, len(sizes)))
    return {"groups": groups, "batch_size": share * number, "number": number}


@given(problems(), st.integers(0, 2**32))
def test_batch_has_equally_many_distinct_samples_of_n_groups(problem: dict[str, Any], seed: int) -> None:
    groups, batch_size, number = problem.values()
    order = uniform(np.random.default_rng(seed), **problem)
    assert order.shape == (len(groups) // batch_size, batch_size)
    for batch in order:
        assert len(set(batch.tolist())) == batch_size
        counts = np.bincount(groups[batch])
        assert sorted(counts[counts > 0].tolist()) == [batch_size // number] * number


@given(problems(), st.integers(0, 2**32))
def test_no_sample_comes_again_before_its_group_is_used_up(problem: dict[str, Any], seed: int) -> None:
    groups, batch_size, number = problem.values()
    share = batch_size // number
    order = uniform(np.random.default_rng(seed), **problem)
    for group, size in enumerate(np.bincount(groups)):
        shares = [sorted(batch[groups[batch] == group].tolist()) for batch in order if group in groups[batch]]
        each = size // share  # the remainder of the round, less than a share, is left out
        for start in range(0, len(shares), each):
            seen = [sample for own in shares[start : start + each] for sample in own]
            assert len(set(seen)) == len(seen)


@given(st.integers(1, 200), st.integers(1, 50))
def test_shuffled_shows_each_sample_once(samples: int, batch_size: int) -> None:
    order = shuffled(np.random.default_rng(0), samples=samples, batch_size=batch_size)
    assert order.shape == (samples // batch_size, batch_size)
    assert len(np.unique(order)) == order.size
    whole = np.random.default_rng(0).permutation(samples)
    assert np.array_equal(order.ravel(), whole[: order.size])


def test_groups_and_samples_are_drawn_uniformly() -> None:
    groups = np.repeat(np.arange(6), [8, 9, 20, 30, 40, 53])  # 160: 13 batches of 12, 4 groups each
    orders = [
        uniform(generator(0, "order", epoch), groups=groups, batch_size=12, number=4).ravel() for epoch in range(600)
    ]
    shown = np.bincount(np.concatenate(orders), minlength=160) / 600
    expected = 13 * 12 / 6  # of each group in an epoch, whatever its size
    per_group = np.bincount(groups, weights=shown)
    # Bernoulli(4 / 6) in each of 7,800 batches: a standard deviation of 0.16 in units of `expected`; five of them.
    np.testing.assert_allclose(per_group, expected, atol=5 * 3 * (13 * 4 / 6 * 2 / 6 / 600) ** 0.5)
    np.testing.assert_allclose(shown, (expected / np.bincount(groups))[groups], rtol=0.2)


def test_groups_come_together_as_often_as_chance_has_it() -> None:
    groups = np.repeat(np.arange(5), 20)
    together = np.zeros((5, 5))
    for epoch in range(400):
        for batch in uniform(generator(1, "order", epoch), groups=groups, batch_size=20, number=2):
            first, second = np.unique(groups[batch])
            together[first, second] += 1
    pairs = together[np.triu_indices(5, 1)]
    np.testing.assert_allclose(pairs, 200, atol=5 * (2000 * 0.1 * 0.9) ** 0.5)


def test_a_slice_of_a_batch_has_no_group_of_its_own() -> None:
    groups = np.repeat(np.arange(2), 5000)
    order = uniform(generator(0, "order", 0), groups=groups, batch_size=100, number=2)
    left = groups[order[:, :50]].mean(1)
    assert left.min() > 0.2
    assert left.max() < 0.8
    assert len(np.unique(left)) > 5


def digits(**options: Any) -> DigitsDataModule:
    return DigitsDataModule(**{"batch_size": 40, "sampler": "class_uniform", **options})


def epoch_of(data: ArrayDataModule, epoch: int = 0) -> list[Any]:
    train = data.train_dataloader()
    train.sampler.set_epoch(epoch)
    return list(train)


def labels_of(batch: Any) -> list[int]:
    return sorted(np.unique(batch.labels.numpy(), return_counts=True)[1].tolist())


def test_the_number_of_batches_stays() -> None:
    plain, own = digits(sampler="shuffled").train_dataloader(), digits().train_dataloader()
    assert len(plain) == len(own) == len(epoch_of(digits())) == len(own.indices) // 40
    for batch in own:
        assert labels_of(batch) == [4] * 10
        assert np.isin(batch.indices.numpy(), own.indices).all()  # never an image that is held out


def test_an_epoch_is_a_function_of_seed_and_number() -> None:
    first, again, second = epoch_of(digits()), epoch_of(digits()), epoch_of(digits(), 1)
    other_seed = epoch_of(digits(seed=1))
    for one, same in zip(first, again, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one[:3], same[:3], strict=True))
    for others in (second, other_seed):
        assert not any(torch.equal(a.indices, b.indices) for a, b in zip(first, others, strict=True))


@pytest.mark.parametrize("ranks", [2, 4, 5])
def test_ranks_share_a_global_batch(ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = epoch_of(digits(), 3)
    parts = []
    for rank in range(ranks):
        monkeypatch.setattr(loader, "world", lambda rank=rank: (rank, ranks))
        parts.append(epoch_of(digits(), 3))
    for batch, *slices in zip(whole, *parts, strict=True):
        assert torch.equal(batch.images, torch.cat([part.images for part in slices]))
        assert torch.equal(batch.labels, torch.cat([part.labels for part in slices]))


def test_worker_processes_make_the_same_batches() -> None:
    for epoch in (0, 2):
        here, there = epoch_of(digits(), epoch), epoch_of(digits(resident=False, workers=2), epoch)
        for one, other in zip(here, there, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for split in ("train", "test"):
        for name, count in (("cat", 9), ("dog", 20), ("wolf", 6)):
            for i in range(count):
                picture(folder / split / name / f"{i}.png", (16, 16))
    return folder


def test_own_images_of_rare_classes_come_as_often(photos: Path, tmp_path: Path) -> None:
    data = ImageFolderDataModule(
        photos, image_size=16, cache_dir=tmp_path / "cache", batch_size=9, sampler="class_uniform", sampler_groups=3
    )
    assert [labels_of(batch) for batch in data.train_dataloader()] == [[3, 3, 3]] * 3
    assert data.superclasses is data.superclass_names is None


@pytest.mark.parametrize(
    ("groups", "batch_size", "number"),
    [(100, 64, 16), (20, 64, 16), (100, 128, 32), (10, 64, 8), (10, 40, 10), (200, 256, 64), (2, 64, 2), (100, 8, 2),
     (1, 64, 1)],
)  # fmt: skip
def test_the_number_of_groups_that_is_ours_to_choose(groups: int, batch_size: int, number: int) -> None:
    assert group_number(None, groups, "classes", batch_size) == number


@given(st.integers(1, 12), st.integers(1, 100), st.none() | st.integers(1, 120))
def test_the_nearest_number_is_one_that_works(groups: int, batch_size: int, number: int | None) -> None:
    try:
        assert batch_size % group_number(number, groups, "classes", batch_size) == 0
    except InputError as error:
        nearest = re.search(r"nearest (?:is|divisor of \d+:) (\d+)(?: or (\d+))?", str(error))
        assert nearest is not None
        for other in filter(None, nearest.groups()):
            if number is None:
                assert group_number(None, groups, "classes", int(other)) >= min(2, groups)
            else:
                assert group_number(int(other), groups, "classes", batch_size) == int(other)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"sampler": "class_unifrom"},
            "dataset.sampler 'class_unifrom': unknown; did you mean class_uniform or superclass_uniform? "
            "all: class_uniform, shuffled, superclass_uniform",
        ),
        ({"sampler": None}, "dataset.sampler 'None': unknown; all: class_uniform, shuffled, superclass_uniform"),
        (
            {"sampler_groups": 0},
            "dataset.sampler_groups=0: must be a whole number of at least 1; the nearest is 1",
        ),
        (
            {"sampler": "shuffled", "sampler_groups": 8},
            "dataset.sampler_groups=8: has no effect with dataset.sampler=shuffled; "
            "leave it out, or set dataset.sampler=class_uniform",
        ),
    ],
)
def test_options_that_are_wrong_with_any_data(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as error:
        digits(**options)
    assert str(error.value) == words


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"sampler_groups": 12},
            "dataset.sampler_groups=12: there are only 10 classes; nearest divisor of 40: 10",
        ),
        (
            {"sampler_groups": 12, "batch_size": 64},
            "dataset.sampler_groups=12: there are only 10 classes; nearest divisor of 64: 8",
        ),
        (
            {"sampler_groups": 6},
            "dataset.sampler_groups=6: 40 images cannot be shared equally; nearest divisor of 40: 5 or 8",
        ),
        (
            {"batch_size": 61},
            "dataset.batch_size=61: cannot be shared equally by 2 or more of 10 classes with 4 or more images each; "
            "the nearest is 60, or set dataset.sampler_groups",
        ),
        (
            {"batch_size": 6},
            "dataset.batch_size=6: cannot be shared equally by 2 or more of 10 classes with 4 or more images each; "
            "the nearest is 8, or set dataset.sampler_groups",
        ),
        (
            {"batch_size": 1200},
            "dataset.sampler=class_uniform: dataset.batch_size=1200 takes 120 images of each of 10 classes, but '8' "
            "has only 117 to train on; the nearest is dataset.batch_size=1170 with dataset.sampler_groups=10",
        ),
        (
            {"sampler": "superclass_uniform"},
            "dataset.sampler=superclass_uniform: these data have no superclasses; class_uniform needs none",
        ),
    ],
)
def test_options_that_the_data_do_not_allow(options: dict[str, Any], words: str) -> None:
    data = digits(**options)  # evaluation may use another batch size
    data.test_dataloader()
    with pytest.raises(InputError) as error:
        data.train_dataloader()
    assert str(error.value) == words


def test_a_class_with_too_few_images_is_named(photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"image_size": 16, "cache_dir": tmp_path / "cache", "sampler": "class_uniform"}
    with pytest.raises(InputError, match="takes 8 images of each of 3 classes, but 'wolf' has only 5 to train on; "):
        ImageFolderDataModule(photos, batch_size=24, **options).train_dataloader()
    with pytest.raises(InputError, match="but 'cat' has only 1 to train on; the nearest is dataset.batch_size=3"):
        ImageFolderDataModule(photos, batch_size=12, validation_fraction=0.95, **options).train_dataloader()


def raw_labels(real_data: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    raw = pickle.loads((real_data / "cifar-100-python" / "train").read_bytes(), encoding="latin1")
    return np.array(raw["fine_labels"]), np.array(raw["coarse_labels"])


def test_the_superclasses_of_real_cifar100(real_data: Path) -> None:
    data = CIFAR100DataModule(real_data)
    assert data.superclasses is not None
    assert data.superclass_names is not None
    assert np.bincount(data.superclasses).tolist() == [5] * 20
    assert len(data.superclass_names) == 20
    fine, coarse = raw_labels(real_data)
    assert np.array_equal(np.array(data.superclasses)[fine], coarse)
    trees = {n for n, s in zip(data.class_names, data.superclasses, strict=True) if data.superclass_names[s] == "trees"}
    assert trees == {"maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"}


@pytest.mark.parametrize("sampler", ["class_uniform", "superclass_uniform"])
@pytest.mark.parametrize(("number", "share"), [(None, 4), (4, 16), (2, 32)])
def test_batches_of_real_cifar100(sampler: Any, number: int | None, share: int, real_data: Path) -> None:
    labels = raw_labels(real_data)[sampler == "superclass_uniform"]
    train = CIFAR100DataModule(real_data, sampler=sampler, sampler_groups=number).train_dataloader()
    order = train.indices[train.order(generator(0, "order", 0))]
    assert order.shape == (703, 64)
    counts = np.stack([np.bincount(labels[batch], minlength=labels.max() + 1) for batch in order])
    assert set(np.unique(counts)) == {0, share}
    assert (counts.sum(1) == 64).all()
    first = next(iter(train))
    assert np.array_equal(first.indices.numpy(), order[0])
