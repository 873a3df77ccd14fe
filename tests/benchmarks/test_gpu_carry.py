"""What travels to a GPU machine and back: sizes, order, and what is refused."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tabulated
import torch
from gpu import carry, check, cifar, evidence, packing
from gpu.parts import cut, extract_parts, tar, write_parts
from gpu.places import Places
from gpu.sizes import MINIATURE, WHOLE

from stkd_lightning.data import CIFAR100DataModule
from stkd_lightning.utilities.errors import InputError

KIB = 1 << 10


def write_official(folder: Path, train: int = 120, test: int = 40) -> Path:
    official = folder / cifar.FOLDER
    official.mkdir(parents=True)
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        labels = [i % 100 for i in range(count)]
        content: dict[str, Any] = {"fine_labels": labels, "coarse_labels": [label // 5 for label in labels]}
        content["data"] = random.integers(0, 256, (count, 3072), dtype=np.uint8)
        (official / split).write_bytes(pickle.dumps(content, protocol=2))
    names = {"fine_label_names": [f"class {i}" for i in range(100)]}
    names |= {"coarse_label_names": [f"superclass {i}" for i in range(20)]}
    (official / "meta").write_bytes(pickle.dumps(names, protocol=2))
    return official


def noise(size: int) -> bytes:
    return np.random.default_rng(0).bytes(size)


def write_run(places: Places, number: int, size: int) -> Path:
    """Write the state of an unfinished run of the table."""
    run = places.runs / evidence.name_of(evidence.jobs(WHOLE, places)[number])
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").write_bytes(noise(size))
    (run / "checkpoints" / "before_last.ckpt").write_bytes(noise(size))
    return run


def write_file(path: Path, size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(noise(size))
    return path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousandth of the sizes that are allowed."""
    monkeypatch.setattr(carry, "CALL", 60 * KIB)
    monkeypatch.setattr(carry, "FILE", 15 * KIB)


def test_strips_hold_the_official_data(tmp_path: Path) -> None:
    official = write_official(tmp_path / "here", train=620)
    cifar.write_strips(official, tmp_path / "strips")
    cifar.read_strips(tmp_path / "strips", tmp_path / "there" / cifar.FOLDER)
    assert sorted(p.name for p in (tmp_path / "strips").glob("train*")) == ["train-000.webp", "train-001.webp"]
    here, there = (CIFAR100DataModule(tmp_path / place, download=False).arrays for place in ("here", "there"))
    assert here.digest == there.digest
    assert here.superclasses == there.superclasses


def test_parts_are_put_together(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(np.random.default_rng(0).bytes(50 * KIB))
    parts = write_parts(tmp_path / "parts", "part", cut(tar({"a/big": big}), [20 * KIB] * 4))
    assert [path.name for path in parts] == ["part.0", "part.1", "part.2"]
    extract_parts(parts, tmp_path / "whole")
    assert (tmp_path / "whole" / "a" / "big").read_bytes() == big.read_bytes()
    with pytest.raises(InputError, match="broken"):
        extract_parts(parts[:2], tmp_path / "other")
    with pytest.raises(ValueError, match="the parts hold 40960"):
        cut(bytes(50 * KIB), [20 * KIB] * 2)


def test_calls_carry_what_fits(tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STKD_DATA", str(tmp_path))
    places, wheels = Places(tmp_path), tmp_path / "wheels"
    write_file(wheels / "hydra.whl", 1 * KIB)
    write_file(places.carried / "strips" / "train-000.webp", 50 * KIB)
    monkeypatch.setattr(packing, "RESERVE", 2 * KIB)
    for name, size in (("resnet32x4", 14 * KIB), ("wrn_40_2", 4 * KIB), ("vgg8", 1 * KIB)):
        write_file(places.teachers / f"{name}.safetensors", size)
    first, _, third = (write_run(places, number, size) for number, size in ((0, 10), (1, 60 * KIB), (2, 9 * KIB)))
    packing.pack(1, WHOLE, places, wheels)
    packing.pack(2, WHOLE, places, wheels)
    for call in ("1", "2"):
        files = [path for path in (places.carried / call).rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) <= carry.CALL
        assert {"commit.json", "hydra.whl"} <= {path.name for path in files}
    assert not list(places.teachers.iterdir())
    away = Places(tmp_path / "away")
    packing.shutil.copytree(places.carried, away.carried)
    monkeypatch.setattr(carry.cifar, "read_strips", lambda strips, official: official.mkdir(parents=True))
    carry.lay_out(away)
    names = {p.relative_to(away.root).as_posix() for p in away.root.rglob("*") if p.is_file()}
    assert {n for n in names if n.startswith("benchmarks/")} == {
        f"benchmarks/teachers/{name}.safetensors" for name in ("resnet32x4", "wrn_40_2")
    }
    assert {p.parents[1].name for p in away.runs.rglob("last.ckpt")} == {first.name, third.name}
    assert not list(away.runs.rglob("before_last.ckpt"))
    packing.put_back(places)
    assert len(list(places.teachers.iterdir())) == 3


def test_tar_with_a_checkpoint_is_no_zip(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "last.ckpt")
    (tmp_path / "parts.tar").write_bytes(tar({"runs/last.ckpt": tmp_path / "last.ckpt"}))
    extract_parts([tmp_path / "parts.tar"], tmp_path / "whole")
    assert torch.equal(torch.load(tmp_path / "whole" / "runs" / "last.ckpt")["weight"], torch.zeros(3))


def test_second_part_alone_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / ".gpu" / "2"
    write_file(folder / "part.1", 10)
    (folder / "parts").write_text("2")
    with pytest.raises(InputError, match="has 1 of 2 parts; carry .gpu/1 and /2"):
        carry.lay_out(Places(tmp_path))


def test_second_call_is_refused_before_the_first(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run pack.py --call 1 first"):
        packing.pack(2, MINIATURE, Places(tmp_path), tmp_path / "wheels")


def test_at_most_eight_small_files_come_back(tmp_path: Path, small: None) -> None:
    away, home, out = Places(tmp_path / "away"), Places(tmp_path / "home"), tmp_path / "out"
    write_file(away.results / "gpu" / "check" / "old.json", 10)
    before = carry.kept(away)
    write_file(away.results / "gpu" / "check" / "new.json", 10)
    write_file(away.teachers / "resnet32x4.json", 10)
    write_file(away.teachers / "resnet32x4.safetensors", 14 * KIB)
    for number in range(12):
        write_run(away, number, 10 * KIB)
    left = carry.deliver(WHOLE, away, before, out, weights=True)
    assert len(list(out.iterdir())) <= carry.FILES
    assert max(path.stat().st_size for path in out.iterdir()) <= carry.FILE
    home.root.mkdir()
    names = carry.unpack(out, home)
    assert "benchmarks/results/gpu/check/old.json" not in names
    assert {"benchmarks/results/gpu/check/new.json", "benchmarks/teachers/resnet32x4.json"} <= set(names)
    assert (home.teachers / "resnet32x4.safetensors").stat().st_size == 14 * KIB
    came, stayed = (len([name for name in group if name.endswith("last.ckpt")]) for group in (names, left))
    assert came + stayed == 12
    assert 3 <= came < 12


@pytest.mark.parametrize(
    "name", ["src/stkd_lightning/train.py", "benchmarks/results/../../run.py", "benchmarks/gpu/x.json"]
)
def test_foreign_files_are_refused(name: str, tmp_path: Path) -> None:
    source, root = write_file(tmp_path / "source", 10), tmp_path / "home"
    root.mkdir()
    write_parts(tmp_path / "out", "results.tar", [])
    (tmp_path / "out" / "results.tar").write_bytes(tar({name: source}))
    with pytest.raises(InputError, match="refused"):
        carry.unpack(tmp_path / "out", Places(root))
    assert not [path for path in root.rglob("*") if path.is_file()]


def test_reference_is_met_on_this_device() -> None:
    result = check.reference()
    assert result["passed"], result


def test_checks_name_what_differs() -> None:
    assert check.compared([1.0, 2.0], [1.0, 2.0], 0.0, 0.0)["passed"]
    assert not check.compared([1.0, float("nan")], [1.0, 2.0], 1.0, 1.0)["passed"]
    assert not check.compared([1.1, 2.0], [1.0, 2.0], 0.05, 1.0)["passed"]
    assert not check.compared([1.0], [1.0, 1.0], 1.0, 1.0)["passed"]
    parts = {"one": {"passed": True}, "graph": check.ELSEWHERE}
    assert check.checked(parts)["passed"]
    assert not check.checked({**parts, "two": {"passed": False}})["passed"]


def test_evidence_waits_for_its_teacher(tmp_path: Path) -> None:
    places = Places(tmp_path)
    first = evidence.jobs(WHOLE, places)[0]
    assert evidence.needs(first, places) == "no teacher resnet32x4"
    write_file(places.teachers / "resnet32x4.safetensors", 10)
    (places.work / "data" / cifar.FOLDER).mkdir(parents=True)
    assert evidence.needs(first, places) == ""
    assert evidence.unfinished(replace(WHOLE), places) == []


def test_one_teacher_on_two_cards_is_one_teacher() -> None:
    def record(digest: str, accuracy: float) -> dict[str, Any]:
        return {"data": {"digest": "d"}, "teacher": {"digest": digest, "test": {"last": {"accuracy": accuracy}}}}

    assert tabulated.apart(record("a", 0.75), record("a", 0.7501)) == ""
    assert tabulated.apart(record("a", 0.75), record("a", 0.76)) == "another teacher"
    assert tabulated.apart(record("a", 0.75), record("b", 0.75)) == "another teacher"


def test_folder_without_results_is_refused(tmp_path: Path) -> None:
    places = Places(tmp_path)
    assert carry.deliver(WHOLE, places, {}, tmp_path / "out", weights=True) == []
    with pytest.raises(InputError, match="holds no results.tar"):
        carry.unpack(tmp_path / "out", places)


def test_table_shows_the_seeds_so_far(tmp_path: Path) -> None:
    table = tabulated.read_table_file(WHOLE.table, tmp_path)
    run = ("resnet32x4_resnet8x4", "KD", 0)
    whole = json.loads((tabulated.RESULTS / "A" / "cifar100" / "kd-0.json").read_text())
    file = tabulated.record_file(table, *run)
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({**whole, "part": run[0], "settings": tabulated.settings(table, *run)}))
    first = tabulated.markdown(table).split("\n\n**")[0]
    assert "| KD | 1 of 3 |" in first
    assert "| STKD | not run |" in first
    for seed in (1, 2):
        again = {**whole, "part": run[0], "seed": seed, "settings": tabulated.settings(table, *run[:2], seed)}
        tabulated.record_file(table, *run[:2], seed).write_text(json.dumps(again))
    assert "| KD | 3 |" in tabulated.markdown(table)
