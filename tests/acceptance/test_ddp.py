"""Two processes on the CPU, from the command line."""

import json
from pathlib import Path

from tests.conftest import Command

DDP = ["experiment=quickstart", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_epochs=2",
       "teacher.max_epochs=2", "teacher.min_accuracy=0", "logger=csv", "baseline=false"]  # fmt: skip


def test_two_ranks_leave_one_run(command: Command, tmp_path: Path) -> None:
    done = command("train", *DDP, "hydra.run.dir=run", "cache_dir=cache")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("teacher: training") == done.stdout.count("student: training") == 1
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert 0 < summary["student"]["test"]["last"]["accuracy"] <= 1
    assert {p.name for p in tmp_path.iterdir()} == {"run", "cache"}


def test_a_sweep_runs_each_job_once(command: Command, tmp_path: Path) -> None:
    done = command("train", "-m", *DDP, "loss.alpha=0.5,0.9", "cache_dir=cache", "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("teacher: training") == 1
    assert done.stdout.count("student: training") == 2
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("summary.json")) == [
        "sweep/0/summary.json",
        "sweep/1/summary.json",
    ]
