"""Prepared data on full disks, after crashes, and under a run that goes on."""

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from filelock import FileLock

from stkd_lightning.data import integrity
from stkd_lightning.data.archives.extract import extract
from stkd_lightning.data.arrays import Arrays, RawData, RawSplit
from stkd_lightning.data.open_arrays import open_arrays
from stkd_lightning.data.prepare import prepare
from stkd_lightning.utilities.errors import InputError, RunError
from tests.data.conftest import pack_tar


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def raw(count: int = 20) -> RawData:
    images = np.arange(count * 3 * 32 * 32, dtype=np.uint8).reshape(count, 3, 32, 32)
    splits = {
        s: RawSplit([i % 2 for i in range(count)], [images[:5], images[5:]], (3, 32, 32)) for s in ("train", "test")
    }
    return RawData(splits, ["a", "b"])


def train() -> RawSplit:
    return cast(RawSplit, raw().splits["train"])


@pytest.mark.parametrize("count", [200, 400, 10_000])
def test_a_full_disk(count: int, small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left on device") as caught:
        prepare(small_disk / "set", lambda: raw(count))
    assert caught.value.errno == errno.ENOSPC
    assert str(small_disk / "set") in str(caught.value.filename)
    assert not [p for p in small_disk.iterdir() if p.is_dir()]
    assert len(prepare(small_disk / "set", raw).splits["train"].labels) == 20


def test_a_disk_without_room_for_an_archive(small_disk: Path, cifar100_folder: Path, tmp_path: Path) -> None:
    (cifar100_folder / "large").write_bytes(bytes(2 << 20))
    archive = pack_tar(cifar100_folder, tmp_path / "c.tar.gz")
    with pytest.raises(OSError, match="No space left on device") as caught:
        extract(archive, small_disk / "c")
    assert caught.value.errno == errno.ENOSPC
    assert list(small_disk.iterdir()) == []


def test_files_are_written_whole_and_not_again(tmp_path: Path) -> None:
    arrays = prepare(tmp_path / "set", raw)
    for path in {*arrays.folder.iterdir()} - {arrays.folder / "verified.json"}:
        assert path.stat().st_mode & 0o777 == 0o444
    images = np.concatenate(list(train().images))
    assert np.array_equal(arrays.splits["train"].images, images)
    np.testing.assert_allclose(arrays.mean, images.mean((0, 2, 3)) / 255)
    again = prepare(tmp_path / "set", lambda: pytest.fail("read again"))
    assert again.digest == arrays.digest


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (RawSplit([], [], (3, 32, 32)), "no image in its train split"),
        (train()._replace(labels=[0]), "20 images for 1 labels"),
        (train()._replace(shape=(3, 8, 8)), "images uint8"),
    ],
)
def test_what_is_no_split_leaves_nothing(odd: RawSplit, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        prepare(tmp_path / "set", lambda: RawData({"train": odd}, ["a", "b"]))
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


def shortened(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size // 2)


def zeroed(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(bytes(path.stat().st_size))


FILES = ["facts.json", "train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [shortened, zeroed, Path.unlink])
def test_damaged_in_the_cache(damage: Callable[[Path], object], name: str, tmp_path: Path) -> None:
    damage(prepare(tmp_path / "set", raw).folder / name)
    with pytest.raises(
        InputError, match=f"prepared data {tmp_path / 'set'}: damaged .*; delete this folder and run again"
    ):
        open_arrays(tmp_path / "set")
    again = prepare(tmp_path / "set", raw)
    assert (tmp_path / "set.damaged").is_dir()
    assert prepare(tmp_path / "set", lambda: pytest.fail("read again")).digest == again.digest


@pytest.mark.parametrize(
    "change",
    [
        {"splits": ["nope"]},
        {"splits": 3},
        {"splits": []},
        {"class_names": ["a"]},
        {"mean": [0.5]},
        {"std": [0, 0, 0]},
        {"mean": ["a", "b", "c"]},
        {"digest": None},
        {"more": 1},
    ],
)
def test_facts_that_do_not_fit(change: dict[str, object], tmp_path: Path) -> None:
    facts = prepare(tmp_path / "set", raw).folder / "facts.json"
    facts.chmod(0o644)
    facts.write_text(json.dumps({**json.loads(facts.read_text()), **change}))
    with pytest.raises(InputError, match="damaged .*; delete this folder and run again"):
        open_arrays(tmp_path / "set")


def rewritten(folder: Path, name: str, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> None:
    """Change the values of an array, as a program that writes into the cache would."""
    (folder / name).chmod(0o644)
    np.save(folder / name, change(np.load(folder / name)))


CHANGES: dict[str, Callable[[Path], object]] = {
    "inverted": lambda folder: rewritten(folder, "train_images.npy", lambda a: 255 - a),
    "one test image": lambda folder: rewritten(
        folder, "test_images.npy", lambda a: np.concatenate([a[:1, ..., ::-1], a[1:]])
    ),
    "swapped labels": lambda folder: rewritten(folder, "train_labels.npy", lambda a: 1 - a),
    "swapped names": lambda folder: (folder / "facts.json").write_text(
        (folder / "facts.json").read_text().replace('"a"', '"c"')
    ),
    "damaged": lambda folder: shortened(folder / "train_images.npy"),
    "incomplete": lambda folder: (folder / "test_labels.npy").unlink(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_data_are_prepared_again(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = prepare(tmp_path / "set", raw)
    (tmp_path / "set" / "facts.json").chmod(0o644)
    CHANGES[name](first.folder)
    again = prepare(tmp_path / "set", raw)
    cause = "changed after it was written" if name not in ("damaged", "incomplete") else ""
    assert f"{tmp_path / 'set'} cannot be used ({cause}" in capsys.readouterr().out
    assert (again.digest, again.class_names) == (first.digest, ("a", "b"))
    for name, split in again.splits.items():
        source = cast(RawSplit, raw().splits[name])
        assert np.array_equal(split.images, np.concatenate(list(source.images))), name
        assert split.labels.tolist() == source.labels, name
    prepare(tmp_path / "set", lambda: pytest.fail("read again"))
    assert capsys.readouterr().out == ""


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders of which the content was compared with the digest."""
    folders: list[Path] = []
    digest = integrity._digest

    def counted(arrays: Arrays) -> str:
        folders.append(arrays.folder)
        return digest(arrays)

    monkeypatch.setattr(integrity, "_digest", counted)
    return folders


def test_content_is_compared_once_for_each_stamp(tmp_path: Path, compared: list[Path]) -> None:
    folder = prepare(tmp_path / "set", raw).folder
    prepare(tmp_path / "set", raw)
    assert compared == []  # the stamps were recorded when the files were written
    os.utime(folder / "train_images.npy", (1, 1))
    for _ in range(2):
        prepare(tmp_path / "set", lambda: pytest.fail("read again"))
    assert compared == [folder]
    for content in ("", "[]", "{"):  # also written by an older version, which has none
        (folder / "verified.json").write_text(content)
        prepare(tmp_path / "set", lambda: pytest.fail("read again"))
    assert len(compared) == 4


@pytest.mark.parametrize("stamps", [3, [], {"facts.json": 1}, {"facts.json": [1, "a", 2]}])
def test_a_damaged_record_is_no_record(stamps: object, tmp_path: Path, compared: list[Path]) -> None:
    folder = prepare(tmp_path / "set", raw).folder
    (folder / "verified.json").write_text(json.dumps({"stamps": stamps}))
    prepare(tmp_path / "set", lambda: pytest.fail("read again"))
    assert compared == [folder]


def test_copied_data_are_not_compared(tmp_path: Path, compared: list[Path]) -> None:
    folder = prepare(tmp_path / "set", raw).folder
    shutil.copytree(folder, tmp_path / "copy")
    prepare(tmp_path / "copy", lambda: pytest.fail("read again"))
    for path in (tmp_path / "copy").iterdir():
        os.utime(path, (1, int(path.stat().st_mtime)))  # as an archive or a disk image keeps it
    prepare(tmp_path / "copy", lambda: pytest.fail("read again"))
    assert compared == []


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Prepared data of an earlier version, which has no record, in a folder of another user."""
    folder = prepare(tmp_path / "shared" / "set", raw).folder
    (folder / "verified.json").unlink()
    write = integrity.write_json

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    monkeypatch.setattr(integrity, "write_json", lambda p, c: refuse() if p.parent == folder else write(p, c))
    monkeypatch.setenv("STKD_CACHE", str(tmp_path / "own"))
    return folder


def test_data_of_a_closed_cache_are_compared_once(closed: Path, tmp_path: Path, compared: list[Path]) -> None:
    for _ in range(2):
        prepare(closed, lambda: pytest.fail("read again"))
    assert compared == [closed]
    assert len([*(tmp_path / "own" / "verified").iterdir()]) == 1
    shutil.rmtree(tmp_path / "own")
    (tmp_path / "own").touch()  # no record can be written, but this process remembers
    for _ in range(2):
        prepare(closed, lambda: pytest.fail("read again"))
    assert compared == [closed, closed]


def test_changed_data_of_a_closed_cache_are_refused(closed: Path) -> None:
    prepare(closed, lambda: pytest.fail("read again"))
    CHANGES["inverted"](closed)
    with pytest.raises(InputError, match=f"{closed}: changed after it was written; set another cache_dir"):
        prepare(closed, lambda: pytest.fail("read again"))
    CHANGES["damaged"](closed)
    with pytest.raises(InputError, match=r"cannot be written \(Permission denied\), but set is missing or damaged"):
        prepare(closed, lambda: pytest.fail("read again"))


def replaced(path: Path) -> None:
    content = path.read_bytes()
    stat = path.stat()
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def touched(path: Path) -> None:
    os.utime(path, (1, 1))


@pytest.mark.parametrize(
    ("change", "words"),
    [(Path.unlink, "deleted during the run"), *((c, "changed during the run") for c in (shortened, touched, replaced))],
)
@pytest.mark.parametrize("name", FILES)
def test_changed_under_a_run(change: Callable[[Path], object], words: str, name: str, tmp_path: Path) -> None:
    arrays: Arrays = prepare(tmp_path / "set", raw)
    arrays.check_unchanged()
    keep = (arrays.folder / name).open("rb")  # another file cannot take its inode
    change(arrays.folder / name)
    with pytest.raises(RunError, match=f"prepared data {arrays.folder / name}: {words}.*; a resumed run prepares"):
        arrays.check_unchanged()
    keep.close()
