"""Sweeps whose settings are sought: by Optuna here, by W&B's agents elsewhere."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.errors import MissingConfigException
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from stkd_lightning.commands.config.compose import _missing, composed, composing
from stkd_lightning.commands.config.hydra_callbacks import outcome
from stkd_lightning.commands.config.sweeps import jobs
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.paths import conf_dir
from tests.conftest import Command

TUNE = ["experiment=[quickstart,tune]", "teacher=resnet8", "teacher.max_epochs=1", "teacher.min_accuracy=0",
        "trainer.max_epochs=1", "baseline=false", "logger=csv", "hydra.sweep.dir=sweep"]  # fmt: skip


def test_optuna_seeks_and_goes_on(command: Command, tmp_path: Path) -> None:
    """A sweep that ended early is asked for again: its trials are those of before, and are not run twice."""
    done = command("train", *TUNE, "hydra.sweeper.n_trials=2")
    assert done.returncode == 0, done.stderr
    first = [json.loads((tmp_path / "sweep" / job / "summary.json").read_text()) for job in "01"]
    done = command("train", *TUNE, "hydra.sweeper.n_trials=3", "resume=auto")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("this run is already finished") == 2
    assert [json.loads((tmp_path / "sweep" / job / "summary.json").read_text()) for job in "01"] == first
    found = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text())
    values = [outcome(tmp_path / "sweep" / job) for job in "012"]
    assert found["best_value"] == max(v for v in values if v is not None)
    options = [yaml.safe_load((tmp_path / "sweep" / job / "config.yaml").read_text()) for job in "012"]
    sought = [{"loss.alpha": o["loss"]["alpha"], "loss.temperature": o["loss"]["temperature"],
               "mixup.alpha": o["mixup"]["alpha"]} for o in options]  # fmt: skip
    assert found["best_params"] == sought[values.index(found["best_value"])]
    assert all(0 <= s["loss.alpha"] <= 1 <= s["loss.temperature"] <= 16 for s in sought)
    assert all(0.1 <= s["mixup.alpha"] <= 2 for s in sought)
    rows = json.loads((tmp_path / "sweep" / "comparison.json").read_text())["rows"]
    assert len(rows) == 3
    assert "accuracy, %, over n seeds" in done.stdout
    assert outcome(tmp_path) is None


def test_intervals_are_checked_at_their_ends(command: Command, tmp_path: Path) -> None:
    refused: subprocess.CompletedProcess[str] = command("train", *TUNE, "loss.alpha=interval(0,2)")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "error: loss.alpha=2.0: must be in [0, 1]; the nearest is 1\n"
    assert not list(tmp_path.iterdir())
    with composing():
        assert jobs(["seed=1"], {"loss.alpha": "interval(0.1,0.5)"}) == [
            ["loss.alpha=0.1", "seed=1"], ["loss.alpha=0.5", "seed=1"]]  # fmt: skip
        for override, words in [
            ("loss.alpha=interval(0.9,0.1)", "the lower end must come first"),
            ("loss.temperature=tag(log,interval(0,4))", "on a logarithmic scale it must start above 0"),
        ]:
            with pytest.raises(InputError, match=words):
                jobs([override], {})
        with pytest.raises(InputError, match="or list values: loss.alpha=0.0,1.0"):
            jobs(["loss.alpha=interval(0,1)"], {}, intervals=False)


def test_without_the_package() -> None:
    error = _missing(MissingConfigException("", "hydra/sweeper/optuna"))
    assert str(error) == "hydra/sweeper=optuna: its package is not installed; run pip install 'stkd-lightning[optuna]'"


def test_the_command_of_a_wandb_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B's own code makes the command that its agent would run; it composes at both ends of each parameter."""
    sweep: dict[str, Any] = yaml.safe_load((conf_dir() / "wandb_sweep.yaml").read_text())
    assert sweep["metric"] == {"name": "val/accuracy", "goal": "maximize"}
    assert sweep["method"] == "bayes"
    monkeypatch.setenv("WANDB_RUN_ID", "abcd1234")
    with composing():
        for end in ("min", "max"):
            args = create_sweep_command_args({"args": {k: {"value": v[end]} for k, v in sweep["parameters"].items()}})
            words: list[str] = []
            for word in create_sweep_command(sweep["command"]):
                words += {"${env}": [], "${interpreter}": ["python"], "${program}": [sweep["program"]]}.get(
                    word, args["args_no_hyphens"] if word == "${args_no_hyphens}" else [word]
                )
            assert words[:3] == ["python", "-m", "stkd_lightning.train"]
            config = composed("train", words[3:])
            assert config.hydra.run.dir == "outputs/sweep/abcd1234"
            assert config.loss.alpha == sweep["parameters"]["loss.alpha"][end]
            assert config.mixup.alpha == sweep["parameters"]["mixup.alpha"][end]
