"""A checkpoint file tells whether it is what was written."""

import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stkd_lightning.callbacks.checkpoint_folder import newest_whole
from stkd_lightning.models.checkpoint_file import intact, write_sealed
from stkd_lightning.models.weights import read_checkpoint
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.files import BEFORE, LAST, link_or_copy

CONTENT = {"state_dict": {"weight": torch.arange(200.0)}, "epoch": 3}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sealed") / "a.ckpt"
    write_sealed(CONTENT, path)
    return path.read_bytes()


def test_it_is_read_by_torch_and_is_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    write_sealed(CONTENT, path)
    assert intact(path) is True
    for mapped in (False, True):
        content = torch.load(path, weights_only=True, mmap=mapped)
        assert content["epoch"] == 3
        assert torch.equal(content["state_dict"]["weight"], CONTENT["state_dict"]["weight"])
    assert zipfile.ZipFile(path).testzip() is None
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_file_of_torch_carries_no_digest(tmp_path: Path) -> None:
    torch.save(CONTENT, tmp_path / "a.ckpt")
    assert intact(tmp_path / "a.ckpt") is None
    assert read_checkpoint(tmp_path / "a.ckpt")["epoch"] == 3


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_change_goes_unnoticed(
    data: st.DataObject, written: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("changed") / "a.ckpt"
    at, change = data.draw(st.integers(0, len(written) - 1)), data.draw(st.integers(1, 255))
    path.write_bytes(written[:at] + bytes([written[at] ^ change]) + written[at + 1 :])
    assert intact(path) is not True


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(share: float, written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(written[: int(share * len(written))])
    assert not intact(path)
    with pytest.raises(InputError, match="checkpoint .*a.ckpt: damaged"):
        read_checkpoint(path)


def test_newest_whole_checkpoint_is_found_beside_damaged_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    assert newest_whole(tmp_path / "nowhere") is None
    for epoch in (1, 2, 3):
        if epoch > 1:
            link_or_copy(folder / LAST, folder / BEFORE)
        write_sealed({"epoch": epoch}, folder / LAST)
    (folder / ".last.ckpt.77.partial").write_bytes(b"half")
    (tmp_path / ".metrics.csv.77.partial").write_bytes(b"half")
    assert newest_whole(folder) == folder / LAST
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == [BEFORE, LAST]
    damaged = bytearray((folder / LAST).read_bytes())
    damaged[100] ^= 1
    (folder / LAST).write_bytes(damaged)
    assert newest_whole(folder) == folder / BEFORE
    assert read_checkpoint(folder / BEFORE)["epoch"] == 2
    assert "last.ckpt is damaged; it is now last.damaged" in " ".join(capsys.readouterr().out.split())
    assert sorted(p.name for p in folder.iterdir()) == [BEFORE, "last.damaged"]
    (folder / BEFORE).write_bytes(b"")
    assert newest_whole(folder) is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("not run: a file system of its own may not be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_what_was_there(small_disk: Path) -> None:
    write_sealed(CONTENT, small_disk / LAST)
    with pytest.raises(OSError, match="No space left"):
        write_sealed({"weight": torch.zeros(10**5)}, small_disk / LAST)
    assert [p.name for p in small_disk.iterdir()] == [LAST]
    assert intact(small_disk / LAST)
