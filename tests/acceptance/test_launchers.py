"""Sweeps whose jobs run side by side: by joblib on this machine, and by submitit, here without SLURM."""

import json
from pathlib import Path

import pytest
from hydra.errors import MissingConfigException

from stkd_lightning.commands.config.compose import _missing
from tests.conftest import Command

SWEEP = ["-m", "experiment=quickstart", "hydra.callbacks.comparison.report=false",
         "teacher=resnet8", "teacher.max_epochs=1", "teacher.min_accuracy=0",
         "trainer.max_epochs=1", "baseline=false", "logger=csv", "cache_dir=cache"]  # fmt: skip
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
SUBMITIT = ["hydra/launcher=submitit_local"]


@pytest.mark.parametrize(
    "launcher", [pytest.param(JOBLIB, id="joblib"), pytest.param(SUBMITIT, id="submitit", marks=pytest.mark.slow)]
)
def test_jobs_side_by_side(launcher: list[str], command: Command, tmp_path: Path) -> None:
    """One teacher, one table; a job that was refused is told of in one line, and the other is not lost."""
    (tmp_path / "bad.pth").write_text("no weights")
    done = command("train", *SWEEP, *launcher, "loss.alpha=0.5,0.9", "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    summaries = [json.loads((tmp_path / "sweep" / job / "summary.json").read_text()) for job in "01"]
    assert len({s["teacher"]["source"] for s in summaries}) == 1
    assert len([p for p in (tmp_path / "cache" / "trained").iterdir() if p.is_dir()]) == 1
    rows = json.loads((tmp_path / "sweep" / "comparison.json").read_text())["rows"]
    assert [row["label"] for row in rows] == ["stkd, loss.alpha=0.5", "stkd, loss.alpha=0.9"]
    assert done.stdout.count("over n seeds") == 1

    done = command("train", *SWEEP, *launcher, "teacher.checkpoint=null,bad.pth", "hydra.sweep.dir=second")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: checkpoint bad.pth: ")
    assert "Traceback" not in done.stderr
    assert (tmp_path / "second" / "0" / "summary.json").is_file()


@pytest.mark.slow
def test_jobs_of_several_ranks(fresh_command: Command, tmp_path: Path) -> None:
    ranks = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    done = fresh_command("train", *SWEEP, *JOBLIB, *ranks, "loss.alpha=0.5,0.9", "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("teacher: training") == 1
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("summary.json")) == [
        "sweep/0/summary.json",
        "sweep/1/summary.json",
    ]


def test_without_the_package() -> None:
    error = _missing(MissingConfigException("", "hydra/launcher/submitit_slurm"))
    assert str(error) == (
        "hydra/launcher=submitit_slurm: its package is not installed; run pip install 'stkd-lightning[launchers]'"
    )
