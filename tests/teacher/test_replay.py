"""Teacher logits on disk: the same bits as computed, whole or not there, one writer at a time."""

import multiprocessing
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stkd_lightning.losses import Loss
from stkd_lightning.losses.base import Features
from stkd_lightning.teacher import replay as module
from stkd_lightning.teacher.replay import Reading, Recording, Replay, check_replay
from stkd_lightning.utilities.errors import InputError

IMAGES = torch.empty(8, 1)


def logits(position: int, dtype: torch.dtype = torch.float32, rows: int = 8) -> Tensor:
    return torch.randn(rows, 5, generator=torch.Generator().manual_seed(position)).to(dtype)


def record(replay: Replay, name: str = "epoch-0", batches: int = 3, dtype: torch.dtype = torch.float32) -> None:
    one = replay.open(name, batches)
    assert isinstance(one, Recording)
    for i in range(batches):
        assert torch.equal(one.logits(i, IMAGES, partial(logits, i, dtype)), logits(i, dtype))
    one.end()


def never() -> Tensor:
    raise AssertionError("the teacher was run")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("batches", [1, 3, module.FLUSH, 2 * module.FLUSH + 5])
def test_what_is_read_is_what_was_said(dtype: torch.dtype, batches: int, tmp_path: Path) -> None:
    record(Replay(tmp_path), batches=batches, dtype=dtype)
    one = Replay(tmp_path).open("epoch-0", batches)
    assert isinstance(one, Reading)
    for i in reversed(range(batches)):  # from any place, as after a resume in the middle of an epoch
        read = one.logits(i, IMAGES, never)
        assert read.dtype == dtype
        assert torch.equal(read, logits(i, dtype))


def test_a_last_smaller_batch(tmp_path: Path) -> None:
    one = Replay(tmp_path).open("val", 2)
    one.logits(0, IMAGES, partial(logits, 0))
    one.logits(1, IMAGES[:3], lambda: logits(1, rows=3))
    one.end()
    again = Replay(tmp_path).open("val", 2)
    assert torch.equal(again.logits(1, IMAGES[:3], never), logits(1, rows=3))


def test_epochs_and_lengths_are_apart(tmp_path: Path) -> None:
    record(Replay(tmp_path))
    assert isinstance(Replay(tmp_path).open("epoch-1", 3), Recording)
    assert isinstance(Replay(tmp_path).open("epoch-0", 2), Recording)


def test_what_is_not_whole_is_not_there(tmp_path: Path) -> None:
    one = Replay(tmp_path).open("epoch-0", 3)
    one.logits(0, IMAGES, partial(logits, 0))
    one.end()  # an epoch that was cut short
    late = Replay(tmp_path).open("epoch-0", 3)
    assert isinstance(late, Recording)
    for i in (1, 2):  # resumed in the middle
        late.logits(i, IMAGES, partial(logits, i))
    late.end()
    assert not [p for p in tmp_path.iterdir() if p.suffix != ".lock"]
    record(Replay(tmp_path))


def test_a_truncated_file_is_recorded_anew(tmp_path: Path) -> None:
    record(Replay(tmp_path))
    data = tmp_path / "epoch-0-of-3.0"
    data.write_bytes(data.read_bytes()[:-1])
    record(Replay(tmp_path))
    assert isinstance(Replay(tmp_path).open("epoch-0", 3), Reading)


def test_other_batches_are_an_error(tmp_path: Path) -> None:
    record(Replay(tmp_path))
    one = Replay(tmp_path).open("epoch-0", 3)
    with pytest.raises(RuntimeError, match="made of other batches; delete"):
        one.logits(2, torch.empty(9, 1), never)


def test_a_full_disk_ends_the_recording_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH", 1)
    one = Replay(tmp_path).open("epoch-0", 2)
    assert isinstance(one, Recording)
    one.file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    with pytest.warns(UserWarning, match=r"replay: .* cannot be written .*; the teacher runs on"):
        assert torch.equal(one.logits(0, IMAGES, partial(logits, 0)), logits(0))
    assert torch.equal(one.logits(1, IMAGES, lambda: logits(1)), logits(1))
    one.end()
    assert isinstance(Replay(tmp_path).open("epoch-0", 2), Recording)


def _record_slowly(folder: Path, started: "multiprocessing.synchronize.Event") -> None:
    one = Replay(folder).open("epoch-0", 3)
    started.set()
    for i in range(3):
        time.sleep(0.3)
        one.logits(i, IMAGES, partial(logits, i))
    one.end()


def recording_elsewhere(folder: Path) -> multiprocessing.process.BaseProcess:
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=_record_slowly, args=(folder, started))
    process.start()
    assert started.wait(60)
    return process


def test_a_second_run_waits_for_the_first(tmp_path: Path) -> None:
    process = recording_elsewhere(tmp_path)
    one = Replay(tmp_path).open("epoch-0", 3)  # comes back when the other has finished
    assert isinstance(one, Reading)
    assert torch.equal(one.logits(2, IMAGES, never), logits(2))
    process.join()


def test_a_killed_writer_lets_others_write(tmp_path: Path) -> None:
    process = recording_elsewhere(tmp_path)
    process.kill()
    process.join()
    record(Replay(tmp_path))
    one = Replay(tmp_path).open("epoch-0", 3)
    assert isinstance(one, Reading)
    assert torch.equal(one.logits(2, IMAGES, never), logits(2))


class ReadsFeatures(Loss):
    features = Features(teacher=("layer1", "layer3"))


def test_features_cannot_be_replayed() -> None:
    with pytest.raises(
        InputError,
        match=r"teacher.replay=true: ReadsFeatures reads features of the teacher \(layer1, layer3\), and only",
    ):
        check_replay(ReadsFeatures())
