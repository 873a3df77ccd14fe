"""The fast path from the command line: precision, compilation, replay, resident data."""

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from stkd_lightning.commands.training.precision import has_bfloat16
from tests.conftest import Command

TINY = ["experiment=quickstart", "trainer.max_epochs=2", "teacher.max_epochs=2", "teacher.min_accuracy=0", "logger=csv",
        "baseline=false", "cache_dir=cache", "hydra.run.dir=run", "resume=false"]  # fmt: skip


def run(command: Command, folder: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    done = command("train", *TINY, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((folder / "run" / "summary.json").read_text())


def test_replay_gives_the_same_figures_and_serves_a_sweep(command: Command, tmp_path: Path) -> None:
    _, without = run(command, tmp_path)
    first, recorded = run(command, tmp_path, "teacher.replay=true")
    second, read = run(command, tmp_path, "teacher.replay=true")
    assert "teacher: logits are written to cache/replay/" in first
    assert "teacher: logits are read from cache/replay/" in second
    assert without["student"] == recorded["student"] == read["student"]
    entries = set((tmp_path / "cache" / "replay").iterdir())
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache" / "replay").rglob("*.json")}
    assert len(files) == 4  # two epochs, validation, test

    others = ["loss.alpha=0.5", "loss.temperature=2", "student=resnet14", "optimizer.lr=0.01", "loss=stkd"]
    assert "read from" in run(command, tmp_path, "teacher.replay=true", *others)[0]
    assert {p: p.stat().st_mtime_ns for p in files} == files
    assert set((tmp_path / "cache" / "replay").iterdir()) == entries

    # Each by itself shows the teacher something else, or is another teacher.
    (tmp_path / "mine" / "other").mkdir(parents=True)
    others = ["seed: 1", "mixup: {alpha: 1}", "mixup: {probability: 0}", "teacher: {seed: 1}"]
    others += ["dataset: {batch_size: 32}", "precision: bf16-mixed"]
    for i, other in enumerate(others):
        (tmp_path / "mine" / "other" / f"o{i}.yaml").write_text(f"# @package _global_\n{other}\n")
    done = command("train", "--config-dir", "mine", "-m", *TINY, "teacher.replay=true", "trainer.max_epochs=1",
                   "+other=glob(*)", "hydra.callbacks.comparison.report=false")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("teacher: logits are written to") == len(others)


@pytest.mark.slow
def test_replay_over_two_ranks(fresh_command: Command, tmp_path: Path) -> None:
    ranks = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_epochs=1"]
    _, without = run(fresh_command, tmp_path, *ranks)
    first, recorded = run(fresh_command, tmp_path, *ranks, "teacher.replay=true")
    second, read = run(fresh_command, tmp_path, *ranks, "teacher.replay=true")
    assert "written to" in first
    assert "read from" in second
    assert without["student"] == recorded["student"] == read["student"]
    assert len(list((tmp_path / "cache" / "replay").rglob("epoch-0-of-*.json"))) == 2


def test_replay_of_a_method_that_reads_features_is_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / "own_loss.py").write_text(
        "from stkd_lightning.losses import Loss\nfrom stkd_lightning.losses.base import Features\n"
        "class Hint(Loss):\n    features = Features(teacher=('layer3',))\n"
    )
    (tmp_path / "mine" / "loss").mkdir(parents=True)
    (tmp_path / "mine" / "loss" / "hint.yaml").write_text(
        "# @package _global_\ndefaults: [/mixup: beta]\nloss:\n  _target_: own_loss.Hint\n"
    )
    done = command("train", "--config-dir", "mine", *TINY, "teacher.replay=true", "loss=hint")
    assert done.returncode == 2, done.stderr
    assert (
        "error: teacher.replay=true: Hint reads features of the teacher (layer3), but replay stores only logits"
        in done.stderr
    )
    assert "training" not in done.stdout


def test_what_is_decided_is_kept_with_the_run(command: Command, tmp_path: Path) -> None:
    out, _ = run(command, tmp_path, "precision=auto", "trainer.max_epochs=1", "loss=ce")
    config = OmegaConf.load(tmp_path / "run" / "config.yaml")
    assert config.precision == config.trainer.precision == ("bf16-mixed" if has_bfloat16("cpu") else "32-true")
    assert config.compile is False
    assert f"({config.precision})" in out


@pytest.mark.slow
def test_a_compiled_run(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    _, eager = run(command, tmp_path, "trainer.max_epochs=1", "student=resnet8", "teacher=resnet8")
    out, compiled = run(command, tmp_path, "trainer.max_epochs=1", "student=resnet8", "teacher=resnet8", "compile=true")
    assert "(32-true, compiled)" in out
    assert any((tmp_path / "cache" / "compiled").iterdir())
    assert compiled["student"]["validation"]["cross_entropy"] == pytest.approx(
        eager["student"]["validation"]["cross_entropy"], rel=0.02
    )
    assert OmegaConf.load(tmp_path / "run" / "config.yaml").compile is True


def test_worker_processes_give_the_same_student(command: Command, tmp_path: Path) -> None:
    students = [
        run(command, tmp_path, "trainer.max_epochs=1", f"dataset.resident={resident}", "dataset.workers=2")[1][
            "student"
        ]
        for resident in ("auto", "false")
    ]
    assert students[0] == students[1]
