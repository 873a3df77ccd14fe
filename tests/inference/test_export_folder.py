"""Folders of exports: whole or not there, never over a user's files, and harmless whatever is in them."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from stkd_lightning import load_student
from stkd_lightning.inference.export_folder import check_replaceable, format_of, write_facts
from stkd_lightning.inference.formats import Format, Safetensors
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.files import atomic_folder
from tests.inference.students import NETWORKS, checkpoint


def exported(tmp_path: Path, one: Format | None = None) -> Path:
    one = one or Safetensors()
    student = load_student(checkpoint(tmp_path / "run")[0])
    with atomic_folder(tmp_path / "out") as folder:
        one.write(student, folder / one.file)
        write_facts(folder, one, student.facts, {})
    return tmp_path / "out"


def rewrite(folder: Path, **changes: Any) -> None:
    said = json.loads((folder / "student.json").read_text())
    (folder / "student.json").write_text(json.dumps({**said, **changes}))


def test_an_export_is_loaded_without_the_run(tmp_path: Path) -> None:
    folder = exported(tmp_path)
    images = torch.randn(2, 3, 8, 8)
    expected = load_student(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "gone")
    student = load_student(folder)
    assert torch.equal(student(images), expected(images))
    assert student.facts == expected.facts


def test_a_folder_is_whole_or_as_it_was(tmp_path: Path) -> None:
    folder = exported(tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail() -> None:
        with atomic_folder(folder) as partial:
            (partial / "half").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with atomic_folder(folder) as partial:
        (partial / "other").touch()
    assert [path.name for path in folder.iterdir()] == ["other"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]


def test_what_is_not_of_an_export_is_never_replaced(tmp_path: Path) -> None:
    folder = exported(tmp_path)
    check_replaceable(folder)
    check_replaceable(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check_replaceable(tmp_path / "empty")
    (folder / "notes.txt").touch()
    with pytest.raises(InputError, match="contains notes.txt, which is not part of an export"):
        check_replaceable(folder)
    (folder / "notes.txt").unlink()
    (folder / "student.json").write_text('{"files": ["model.safetensors", "student.json"]}')  # another program's
    with pytest.raises(InputError, match="contains model.safetensors, which is not part of an export"):
        check_replaceable(folder)


class Hostile:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("name", ["torch_export", "torchscript"])
def test_programs_are_run_for_those_who_trust_them(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder, one = exported(tmp_path), format_of(name)
    rewrite(folder, format=name)
    (folder / one.file).write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(InputError, match=f"a {name} file can contain any program; trust=true runs it"):
        load_student(folder)
    with pytest.raises(InputError, match=f"export {folder / one.file}: damaged or not"):
        load_student(folder, trust=True)  # not a file of that format


def test_hostile_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = exported(tmp_path)
    said = json.loads((folder / "student.json").read_text())["student"]
    evil = {"_target_": "os.mkdir", "path": "executed"}
    changes: list[tuple[dict[str, Any], str]] = [
        ({"student": {**said, "network": evil}}, "wants to build os.mkdir, which is not part of this project"),
        ({"student": {**said, "network": {**NETWORKS["zoo"], "weights": evil}}}, "is not plain"),
        ({"student": {**said, "network": "resnet8"}}, "its network is not"),
        ({"student": {**said, "image_size": 1 << 40}}, "its image_size is not"),
        ({"student": {**said, "input": {"size": 1 << 40}}}, "its input is not"),
        ({"student": {**said, "input": {"size": 8, "evil": 1}}}, "its input is not"),
        ({"student": []}, "its network is not|its class_names is not"),
        ({"student": 3}, "student.json is not that of an export"),
        ({"format": "../train"}, "format '../train': unknown; all: onnx"),
        ({"format": ["onnx"]}, "unknown; did you mean onnx?"),
        ({"format": "onnx"}, "model.onnx is missing"),
        ({"stkd_lightning_export": 2}, "written by another version"),
    ]
    original = (folder / "student.json").read_text()
    for change, words in changes:
        (folder / "student.json").write_text(original)
        rewrite(folder, **change)
        with pytest.raises(InputError, match=words):
            load_student(folder)
    (folder / "student.json").write_text(original)
    rewrite(folder, format="onnx")
    (folder / "model.onnx").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(InputError, match=r"model\.onnx: damaged or not an ONNX file"):
        load_student(folder)
    (folder / "student.json").write_text("[")
    with pytest.raises(InputError, match="student.json is not that of an export"):
        load_student(folder)
    (folder / "student.json").write_text(original)
    (folder / "model.safetensors").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(InputError, match=r"model\.safetensors: damaged or not a checkpoint"):
        load_student(folder)
    assert not (tmp_path / "executed").exists()
