import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stkd_lightning.utilities.files import atomic_file, atomic_folder, link_or_copy

WRITE = """
import sys
from pathlib import Path
from stkd_lightning.utilities.files import write_json
for i in range(200):
    write_json(Path(sys.argv[1]), i)
"""


def test_two_processes_may_write_one_file(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path / "a.json")]) for _ in range(2)]
    assert [w.wait(60) for w in writers] == [0, 0]
    assert json.loads((tmp_path / "a.json").read_text()) == 199
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def fail(path: Path) -> None:
    with atomic_file(path) as partial:
        partial.write_text("half")
        raise ZeroDivisionError


def fail_folder(path: Path) -> None:
    with atomic_folder(path) as partial:
        (partial / "half").touch()
        raise ZeroDivisionError


@pytest.mark.parametrize("exists", [False, True])
def test_atomic_file_leaves_the_old_file_after_an_error(exists: bool, tmp_path: Path) -> None:
    if exists:
        (tmp_path / "a").write_text("old")
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path / "a")
    assert names(tmp_path) == (["a"] if exists else [])
    assert not exists or (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize("exists", [False, True])
def test_atomic_folder_leaves_the_old_folder_after_an_error(exists: bool, tmp_path: Path) -> None:
    if exists:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "old").touch()
    with pytest.raises(ZeroDivisionError):
        fail_folder(tmp_path / "a")
    assert names(tmp_path) == (["a"] if exists else [])
    assert not exists or names(tmp_path / "a") == ["old"]


def test_atomic_folder_removes_the_rest_of_a_killed_process(tmp_path: Path) -> None:
    (tmp_path / ".a.partial").mkdir()
    (tmp_path / ".a.partial" / "half").touch()
    with atomic_folder(tmp_path / "a", locked=True) as partial:
        (partial / "file").touch()
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["file"]


def no_links(path: Path, other: Path) -> None:
    raise OSError("no links here")


@pytest.mark.parametrize("link", [os.link, no_links])
def test_link_or_copy_keeps_the_content(
    link: Callable[[Path, Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", link)
    (tmp_path / "last").write_text("1")
    link_or_copy(tmp_path / "last", tmp_path / "best")
    with atomic_file(tmp_path / "last") as partial:
        partial.write_text("2")
    assert (tmp_path / "best").read_text() == "1"
    assert names(tmp_path) == ["best", "last"]
