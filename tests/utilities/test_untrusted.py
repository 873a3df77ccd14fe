import os
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch

from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.untrusted import MIB, VALUES, check_plain, read_bytes, read_json, read_yaml

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A pipe is not waited for, and an endless device not read."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    for name, words in (("pipe", "not a regular"), ("zero", "not a regular"), ("loop", "cannot be read"),
                        ("", "not a regular"), ("none", "cannot be read")):  # fmt: skip
        with pytest.raises(InputError, match=words):
            read_bytes(tmp_path / name)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match="is larger than 1 MiB"):
        read_bytes(tmp_path / "sparse", MIB)
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "link").symlink_to("real")
    assert read_bytes(tmp_path / "link") == b"x"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "holds an alias"),
        ("a: &a [*a]", "holds an alias"),
        ("[" * 500, "is nested deeper than 64"),
        ("{a: " * 3000, "is n"),
        ("a,b: [" + "x, " * VALUES + "]", "holds more than 200,000 values"),
        ("a: " + "1:" * 300_000 + "1", "holds a text of"),
        ("a: " + "1:" * 3000 + "1", "holds a number of"),
        ("a: 2001-99-99", "is not YAML"),
        ("a: !!python/object/apply:os.system [true]", "is not YAML"),
        ("a: [b", "is not YAML"),
        ("? [a]: b\n: c", "is not YAML"),
    ],
)
def test_hostile_yaml_is_refused(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=f"^{path}: {words}"):
        read_yaml(path)


def test_plain_yaml_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: {b: [1, 2.5, null, true], c: 2001-01-01}\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": {"b": [1, 2.5, None, True], "c": date(2001, 1, 1)}}


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' + "9" * 5000 + "}", "{", "\xff", "[" + "0," * VALUES + "0]"])
def test_hostile_json_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=f"^{path}: "):
        read_json(path)


def shared(levels: int) -> Any:
    value: Any = ["x"]
    for _ in range(levels):
        value = [value] * 10
    return value


def test_references_count_wherever_they_are() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    deep: Any = ()
    for _ in range(3000):
        deep = (deep,)
    for content in (shared(9), cycle, deep, [cycle, cycle], ["x" * 10_000] * 5000, torch.zeros(1), 2**100):
        with pytest.raises(InputError, match="^it: "):
            check_plain({"a": content}, "it")
    assert check_plain(shared(4), "it") == shared(4)
