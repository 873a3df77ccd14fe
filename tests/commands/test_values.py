"""Values between the stages of a run: read-only settings, and summaries that are read as they were written."""

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, ReadonlyConfigError

from stkd_lightning.commands import cli
from stkd_lightning.commands.config.compose import with_values
from stkd_lightning.reporting.summary import RunSummary
from stkd_lightning.tasks import Score
from stkd_lightning.utilities.paths import conf_dir
from tests.reporting.runs import run, written


def settings() -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", ["experiment=quickstart", "method=kd", "run_dir=run"])


def test_checked_settings_are_read_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A job that writes to them fails, whatever it writes."""
    seen: list[DictConfig] = []
    monkeypatch.setattr("stkd_lightning.commands.train.train", seen.append)
    monkeypatch.setattr("sys.argv", ["train", "experiment=quickstart", f"hydra.run.dir={tmp_path / 'run'}"])
    cli.command("train", "stkd_lightning.commands.train:train")
    (config,) = seen
    for write in (lambda: setattr(config, "seed", 1), lambda: setattr(config.trainer, "max_epochs", 1)):
        with pytest.raises(ReadonlyConfigError):
            write()


def test_with_values_returns_a_read_only_copy() -> None:
    before = settings()
    after = with_values(before, {"precision": "bf16-mixed", "num_classes": 7, "logger.wandb.tags": ["a"]})
    assert (after.precision, after.num_classes, after.trainer.precision) == ("bf16-mixed", 7, "bf16-mixed")
    assert after.logger.wandb.tags == ["a"]
    assert before.precision == "32-true"
    with pytest.raises(ReadonlyConfigError):
        after.seed = 1


def test_summary_is_read_as_it_was_written(tmp_path: Path) -> None:
    one = written(run("kd", 0, 0.5), tmp_path / "run")
    plain = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert RunSummary.from_plain(plain) == one.summary
    assert one.summary.to_plain() == plain
    assert "score" not in plain


def test_summary_holds_a_score_other_than_accuracy(tmp_path: Path) -> None:
    one = run("kd", 0, 0.5)
    plain = one.summary.to_plain() | {"score": {"name": "error", "higher": False, "unit": "m"}}
    assert RunSummary.from_plain(json.loads(json.dumps(plain))).score == Score("error", higher=False, unit="m")
