"""Two processes on the CPU, from the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Command

DDP = ["experiment=quickstart", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_epochs=2",
       "teacher.max_epochs=2", "teacher.min_accuracy=0", "logger=csv", "baseline=false"]  # fmt: skip


def test_two_ranks_leave_one_run(fresh_command: Command, tmp_path: Path) -> None:
    done = fresh_command("train", *DDP, "hydra.run.dir=run", "cache_dir=cache")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("teacher: training") == done.stdout.count("student: training") == 1
    assert done.stdout.count("top-1") == done.stdout.count("summary.json") == 1
    assert (tmp_path / "run" / "diagnostics.npz").is_file()  # made by the first rank alone
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert 0 < summary["student"]["test"]["last"]["accuracy"] <= 1
    assert {p.name for p in tmp_path.iterdir()} == {"run", "cache"}


@pytest.mark.slow
def test_a_sweep_runs_each_job_once(fresh_command: Command, tmp_path: Path) -> None:
    done = fresh_command("train", "-m", *DDP, "loss.alpha=0.5,0.9", "cache_dir=cache", "hydra.sweep.dir=sweep",
                   "hydra.callbacks.comparison.report=false")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("teacher: training") == 1
    assert done.stdout.count("student: training") == 2
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("summary.json")) == [
        "sweep/0/summary.json",
        "sweep/1/summary.json",
    ]


def torchrun(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "stkd_lightning.train"]
    return subprocess.run(
        [sys.executable, "-m", *launcher, *DDP, "cache_dir=cache", *arguments],
        cwd=folder,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_torchrun_leaves_one_run(tmp_path: Path) -> None:
    done = torchrun(tmp_path, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("teacher: training") == done.stdout.count("student: training") == 1
    assert done.stdout.count("top-1") == done.stdout.count("summary.json") == 1
    assert {p.name for p in tmp_path.iterdir()} == {"run", "cache"}


def test_ranks_of_torchrun_do_not_name_their_folder_by_the_clock(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path_factory.mktemp("slow")  # the rank that says why is the last to know
    (slow / "sitecustomize.py").write_text(
        "import os, time\nif os.environ.get('LOCAL_RANK') == '0':\n    time.sleep(3)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(slow))
    done = torchrun(tmp_path)
    assert done.returncode == 1  # torchrun's own
    words = "error: hydra.run.dir: contains the time, which can differ between the 2 processes; set one folder for all"
    assert f"{words}: hydra.run.dir=outputs/NAME" in done.stderr
    assert not list(tmp_path.iterdir())
