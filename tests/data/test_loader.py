import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from stkd_lightning.data import loader
from stkd_lightning.data.arrays import Split
from stkd_lightning.data.augment import CropAndFlip
from stkd_lightning.data.batches import Normalize
from stkd_lightning.data.holdout import hold_out
from stkd_lightning.data.loader import EvalLoader, TrainLoader
from stkd_lightning.data.resident import fits
from stkd_lightning.data.sampling import shuffled
from stkd_lightning.utilities.errors import InputError

SPLIT = Split(
    torch.from_numpy(np.random.default_rng(0).integers(0, 256, (50, 3, 8, 8), dtype=np.uint8)), torch.arange(50) % 5
)
NORMALIZE = Normalize((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def train_loader(batch_size: int = 8, seed: int = 0, workers: int = 0) -> TrainLoader:
    return TrainLoader(
        SPLIT,
        np.arange(40),
        order=partial(shuffled, samples=40, batch_size=batch_size),
        batch_size=batch_size,
        normalize=NORMALIZE,
        augmentation=CropAndFlip(padding=1, flip=True),
        seed=seed,
        workers=workers,
    )


def indices(loader: TrainLoader | EvalLoader) -> list[int]:
    return [i for batch in loader if batch.indices is not None for i in batch.indices.tolist()]


def test_an_epoch_shows_each_sample_once_in_an_order_of_its_own() -> None:
    loader = train_loader()
    first, again = indices(loader), indices(loader)
    loader.sampler.set_epoch(1)
    second = indices(loader)
    assert sorted(first) == sorted(second) == list(range(40))
    assert first == again != second
    assert indices(train_loader(seed=1)) != first
    assert len(loader) == 5


def test_ranks_share_a_global_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(train_loader())
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(loader, "world", lambda rank=rank: (rank, 2))
        parts.append(list(train_loader()))
    for batch, left, right in zip(whole, *parts, strict=True):
        assert torch.equal(batch.images, torch.cat([left.images, right.images]))
        assert torch.equal(batch.labels, torch.cat([left.labels, right.labels]))


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_evaluation_sees_each_sample_once_over_all_ranks(ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    for rank in range(ranks):
        monkeypatch.setattr(loader, "world", lambda rank=rank: (rank, ranks))
        own = EvalLoader(SPLIT, np.arange(10, 50), batch_size=8, normalize=NORMALIZE)
        assert len(list(own)) == len(own)
        seen += indices(own)
    assert sorted(seen) == list(range(10, 50))


def test_pixels_are_normalized() -> None:
    batch = next(iter(EvalLoader(SPLIT, np.arange(4), batch_size=4, normalize=NORMALIZE)))
    expected = (SPLIT.images[:4] / 255 - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor(
        [0.2, 0.25, 0.3]
    ).view(3, 1, 1)
    torch.testing.assert_close(batch.images, expected)
    assert batch.labels.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_make_the_same_batches(workers: int) -> None:
    here, there = train_loader(), train_loader(workers=workers)
    for epoch in (0, 2):
        here.sampler.set_epoch(epoch)
        there.sampler.set_epoch(epoch)
        for one, other in zip(here, there, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))


def test_a_split_is_mapped_not_read(tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(1000, 3, 8, 8))
    del images
    mapped = np.load(path, mmap_mode="r")
    split = Split(torch.from_numpy(mapped), torch.zeros(1000, dtype=torch.int64)).to("cpu")
    assert split.images.data_ptr() == mapped.__array_interface__["data"][0]  # the file's own pages, no copy


def test_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fits(SPLIT, torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * SPLIT.images.nbytes, 10**12))
    assert fits(SPLIT, torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * SPLIT.images.nbytes - 2, 10**12))
    assert not fits(SPLIT, torch.device("cuda"))


def test_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="dataset.batch_size=64: there are only 40 training samples"):
        train_loader(batch_size=64)
    monkeypatch.setattr(loader, "world", lambda: (0, 3))
    with pytest.raises(InputError, match="must be a multiple of the 3 ranks"):
        next(iter(train_loader()))


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5])
def test_hold_out_is_stratified_and_seeded(fraction: float) -> None:
    labels = np.repeat(np.arange(4), [10, 20, 30, 40])
    kept, held = hold_out(labels, fraction, seed=0)
    assert sorted([*kept, *held]) == list(range(100))
    assert np.bincount(labels[held], minlength=4).tolist() == [round(fraction * n) for n in (10, 20, 30, 40)]
    assert np.array_equal(held, hold_out(labels, fraction, seed=0)[1])
    assert fraction == 0 or not np.array_equal(held, hold_out(labels, fraction, seed=1)[1])


@pytest.mark.parametrize(("fraction", "held_out"), [(0.0, [0, 0, 0]), (0.01, [0, 1, 1]), (0.99, [0, 1, 9])])
def test_hold_out_of_small_classes(fraction: float, held_out: list[int]) -> None:
    labels = np.repeat(np.arange(3), [1, 2, 10])
    assert np.bincount(labels[hold_out(labels, fraction, seed=0)[1]], minlength=3).tolist() == held_out


def test_workers_end_with_a_process_that_is_killed() -> None:
    """Even one that is busy: its end of the pipe closes."""
    script = """
import sys, time
from stkd_lightning.data.loader import _batches
class Busy:
    def __len__(self): return 1
    def __getitem__(self, i): print("busy", flush=True); time.sleep(1000)
next(iter(_batches(Busy(), 2)))
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "busy\n"
    process.kill()
    process.communicate(timeout=60)


def test_workers_outlast_a_signal_as_they_begin() -> None:
    """The signal comes before a worker has set its own handlers; the batch comes nevertheless."""
    script = """
import os, signal
from stkd_lightning.data import loader
ready = loader._set_worker_signals
def hit(worker): os.kill(os.getpid(), signal.SIGTERM); os.kill(os.getpid(), signal.SIGINT); ready(worker)
loader._set_worker_signals = hit
class One:
    def __len__(self): return 1
    def __getitem__(self, i): return 7
print(list(loader._batches(One(), 1)))
print(signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout == "[7]\nset()\n", done.stderr
