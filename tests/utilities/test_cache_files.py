"""Files that runs share in the cache."""

import os
from pathlib import Path

import pytest

from stkd_lightning.utilities.cache import locked, remembered, set_aside
from stkd_lightning.utilities.errors import InputError


def test_a_number_is_computed_once(tmp_path: Path) -> None:
    numbers = iter([0.25, 0.5])
    assert [remembered(tmp_path / "x" / "n.json", lambda: next(numbers)) for _ in range(2)] == [0.25, 0.25]


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"{", b"null", b"true", b'"0.5"', b"NaN", b"[0.5]"])
def test_a_damaged_number_is_computed_anew(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "n.json"
    path.write_bytes(content)
    assert remembered(path, lambda: 0.25) == 0.25
    assert remembered(path, lambda: 0.5) == 0.25
    assert path.with_suffix(".damaged").read_bytes() == content
    assert capsys.readouterr().out.count("cannot be used") == 1


def test_a_number_that_cannot_be_stored_is_returned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert remembered(tmp_path / "file" / "n.json", lambda: 0.25) == 0.25
    assert capsys.readouterr().out.count("not written") == 1


def test_lock_refuses_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file: cannot be written .*, but entry is missing or damaged"):
        locked(tmp_path / "file" / "entry").__enter__()


def test_entry_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*paths: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    (tmp_path / "n.json").write_text("{")
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(InputError, match=r"n.json: cannot be used \(old\) and cannot be renamed \(Operation not"):
        set_aside(tmp_path / "n.json", "old")
    assert remembered(tmp_path / "n.json", lambda: 0.25) == 0.25
    assert "it is now" not in capsys.readouterr().out
