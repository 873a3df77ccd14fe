"""Teacher logits on disk: the same bits as computed, whole or not there, epoch writer at a time."""

import json
import multiprocessing
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stkd_lightning.losses import Loss
from stkd_lightning.losses.base import Features
from stkd_lightning.teacher import replay as module
from stkd_lightning.teacher.replay import RecordedPass, StoredPass, check_replay, open_pass
from stkd_lightning.utilities.errors import InputError

IMAGES = torch.empty(8, 1)


def logits(position: int, dtype: torch.dtype = torch.float32, rows: int = 8) -> Tensor:
    return torch.randn(rows, 5, generator=torch.Generator().manual_seed(position)).to(dtype)


def record(folder: Path, name: str = "epoch-0", batches: int = 3, dtype: torch.dtype = torch.float32) -> None:
    epoch = open_pass(folder, name, batches)
    assert isinstance(epoch, RecordedPass)
    for i in range(batches):
        assert torch.equal(epoch.logits(i, IMAGES, partial(logits, i, dtype)), logits(i, dtype))
    epoch.end()


def never() -> Tensor:
    raise AssertionError("the teacher was run")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("batches", [1, 3, module.FLUSH, 2 * module.FLUSH + 5])
def test_stored_logits_equal_computed_logits(dtype: torch.dtype, batches: int, tmp_path: Path) -> None:
    record(tmp_path, batches=batches, dtype=dtype)
    epoch = open_pass(tmp_path, "epoch-0", batches)
    assert isinstance(epoch, StoredPass)
    for i in reversed(range(batches)):  # from any place, as after a resume in the middle of an epoch
        read = epoch.logits(i, IMAGES, never)
        assert read.dtype == dtype
        assert torch.equal(read, logits(i, dtype))


def test_replay_stores_a_smaller_last_batch(tmp_path: Path) -> None:
    epoch = open_pass(tmp_path, "val", 2)
    epoch.logits(0, IMAGES, partial(logits, 0))
    epoch.logits(1, IMAGES[:3], lambda: logits(1, rows=3))
    epoch.end()
    again = open_pass(tmp_path, "val", 2)
    assert torch.equal(again.logits(1, IMAGES[:3], never), logits(1, rows=3))


def feature_maps(position: int, *sizes: int) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(position)).to(memory_format=torch.channels_last)


def test_replay_stores_logits_of_any_shape(tmp_path: Path) -> None:
    val = open_pass(tmp_path, "val", 2)
    val.logits(0, IMAGES, lambda: feature_maps(0, 8, 5, 4, 6))
    val.logits(1, IMAGES[:3], lambda: feature_maps(1, 3, 5, 4, 6))
    val.end()
    again = open_pass(tmp_path, "val", 2)
    assert isinstance(again, StoredPass)
    assert torch.equal(again.logits(0, IMAGES, never), feature_maps(0, 8, 5, 4, 6))
    assert torch.equal(again.logits(1, IMAGES[:3], never), feature_maps(1, 3, 5, 4, 6))


@pytest.mark.parametrize("sizes", [[(8, 5, 4, 4), (8, 5, 4, 6)], [(8, 5), (3, 5), (8, 5)]], ids=["shape", "batch"])
def test_replay_does_not_store_uneven_passes(sizes: list[tuple[int, ...]], tmp_path: Path) -> None:
    val = open_pass(tmp_path, "val", len(sizes))
    for position, size in enumerate(sizes):
        logits = torch.randn(size)
        assert torch.equal(val.logits(position, torch.empty(size[0], 1), logits.clone), logits)
    val.end()
    assert isinstance(open_pass(tmp_path, "val", len(sizes)), RecordedPass)


def test_replay_separates_epochs_and_lengths(tmp_path: Path) -> None:
    record(tmp_path)
    assert isinstance(open_pass(tmp_path, "epoch-1", 3), RecordedPass)
    assert isinstance(open_pass(tmp_path, "epoch-0", 2), RecordedPass)


def test_replay_stores_only_complete_passes(tmp_path: Path) -> None:
    epoch = open_pass(tmp_path, "epoch-0", 3)
    epoch.logits(0, IMAGES, partial(logits, 0))
    epoch.end()  # an epoch that was cut short
    late = open_pass(tmp_path, "epoch-0", 3)
    assert isinstance(late, RecordedPass)
    for i in (1, 2):  # resumed in the middle
        late.logits(i, IMAGES, partial(logits, i))
    late.end()
    assert not [p for p in tmp_path.iterdir() if p.suffix != ".lock"]
    record(tmp_path)


def test_replay_records_a_truncated_file_again(tmp_path: Path) -> None:
    record(tmp_path)
    data = tmp_path / "epoch-0-of-3.0"
    data.write_bytes(data.read_bytes()[:-1])
    record(tmp_path)
    assert isinstance(open_pass(tmp_path, "epoch-0", 3), StoredPass)


def flip(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("epoch-0-of-3.0", flip),
        ("epoch-0-of-3.0.json", lambda content: content[:-5]),
        ("epoch-0-of-3.0.json", lambda content: b"\xff"),
        ("epoch-0-of-3.0.json", lambda content: content.replace(b"float32", b"nn")),
        ("epoch-0-of-3.0.json", lambda content: content.replace(b"float32", b"float16")),
        ("epoch-0-of-3.0.json", lambda content: content.replace(b'"batch": 8', b'"batch": 0')),
        ("epoch-0-of-3.0.json", lambda content: content.replace(b'"batch": 8', b'"batch": 12')),
        ("epoch-0-of-3.0.json", lambda content: content.replace(b'"shape"', b'"form"')),
    ],
)
def test_replay_records_a_damaged_pass_again(
    name: str, change: Callable[[bytes], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(change(content))
    assert (tmp_path / name).read_bytes() != content
    record(tmp_path)
    assert capsys.readouterr().out.count("cannot be used") == 1
    assert isinstance(open_pass(tmp_path, "epoch-0", 3), StoredPass)


def test_replay_reads_a_pass_without_a_checksum(tmp_path: Path) -> None:
    record(tmp_path)
    description = tmp_path / "epoch-0-of-3.0.json"
    facts = json.loads(description.read_text())
    del facts["crc32"]
    description.write_text(json.dumps(facts))
    assert isinstance(open_pass(tmp_path, "epoch-0", 3), StoredPass)


def test_replay_refuses_other_batches(tmp_path: Path) -> None:
    record(tmp_path)
    epoch = open_pass(tmp_path, "epoch-0", 3)
    with pytest.raises(RuntimeError, match="recorded with other batches; delete"):
        epoch.logits(2, torch.empty(9, 1), never)


def test_replay_survives_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH", 1)
    epoch = open_pass(tmp_path, "epoch-0", 2)
    assert isinstance(epoch, RecordedPass)
    epoch.file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    with pytest.warns(UserWarning, match=r"replay: .* cannot be written .*; the teacher runs instead"):
        assert torch.equal(epoch.logits(0, IMAGES, partial(logits, 0)), logits(0))
    assert torch.equal(epoch.logits(1, IMAGES, lambda: logits(1)), logits(1))
    epoch.end()
    assert isinstance(open_pass(tmp_path, "epoch-0", 2), RecordedPass)


def test_replay_survives_a_disk_that_is_full_at_the_end(tmp_path: Path) -> None:
    epoch = open_pass(tmp_path, "epoch-0", 1)
    assert isinstance(epoch, RecordedPass)
    epoch.file = open("/dev/full", "wb")  # noqa: SIM115
    epoch.logits(0, IMAGES, partial(logits, 0))
    with pytest.warns(UserWarning, match=r"replay: .* cannot be written .*; the teacher runs instead"):
        epoch.end()
    assert isinstance(open_pass(tmp_path, "epoch-0", 1), RecordedPass)


def _record_slowly(folder: Path, started: "multiprocessing.synchronize.Event") -> None:
    epoch = open_pass(folder, "epoch-0", 3)
    started.set()
    for i in range(3):
        time.sleep(0.3)
        epoch.logits(i, IMAGES, partial(logits, i))
    epoch.end()


def recording_process(folder: Path) -> multiprocessing.process.BaseProcess:
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=_record_slowly, args=(folder, started))
    process.start()
    assert started.wait(60)
    return process


def test_replay_waits_for_another_recording_run(tmp_path: Path) -> None:
    process = recording_process(tmp_path)
    epoch = open_pass(tmp_path, "epoch-0", 3)  # comes back when the other has finished
    assert isinstance(epoch, StoredPass)
    assert torch.equal(epoch.logits(2, IMAGES, never), logits(2))
    process.join()


def test_replay_records_after_a_killed_writer(tmp_path: Path) -> None:
    process = recording_process(tmp_path)
    process.kill()
    process.join()
    record(tmp_path)
    epoch = open_pass(tmp_path, "epoch-0", 3)
    assert isinstance(epoch, StoredPass)
    assert torch.equal(epoch.logits(2, IMAGES, never), logits(2))


class ReadsFeatures(Loss):
    features = Features(teacher=("layer1", "layer3"))


def test_check_replay_refuses_features() -> None:
    with pytest.raises(
        InputError,
        match=r"teacher.replay=true: ReadsFeatures reads features of the teacher \(layer1, layer3\), but replay",
    ):
        check_replay(ReadsFeatures())


@pytest.mark.parametrize(("limit", "resident"), [(2**30, True), (1, False)])
def test_replay_copies_a_pass_to_a_device_at_once(
    limit: int, resident: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to a limit; here the CPU stands for a GPU."""
    record(tmp_path, dtype=torch.bfloat16)
    monkeypatch.setattr(module, "RESIDENT_DEVICES", ("cpu",))
    monkeypatch.setattr(module, "DEVICE_LIMIT", limit)
    epoch = open_pass(tmp_path, "epoch-0", 3)
    assert isinstance(epoch, StoredPass)
    for i in (2, 0, 1):
        assert torch.equal(epoch.logits(i, IMAGES, never), logits(i, torch.bfloat16))
    assert (epoch.resident is not None) == resident
