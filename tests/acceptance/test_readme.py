"""What the README shows works as it stands there."""

import json
import re
import shlex
from pathlib import Path

import pytest

from stkd_lightning.commands.config.checks import check
from stkd_lightning.commands.config.compose import composed, composing, jobs
from tests.conftest import Command

README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    found = [
        line.split("#")[0].split("-m stkd_lightning.train", 1)[1] for line in lines if "stkd_lightning.train" in line
    ]
    return [arguments.strip() for arguments in found if "--help" not in arguments]


@pytest.mark.parametrize("arguments", commands())
def test_commands_compose(arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.pth").touch()  # the checkpoint of one of them
    with composing():
        for overrides in jobs([o for o in shlex.split(arguments) if o != "-m"], {}):
            check(composed("train", overrides))


def test_there_are_commands() -> None:
    assert len(commands()) >= 8


def test_an_own_loss(command: Command, tmp_path: Path) -> None:
    (code,) = [b for b in blocks("python") if "class FeatureDistance" in b]
    (tmp_path / "my_package.py").write_text(code)
    for group in ("term", "loss"):
        (tmp_path / "my_conf" / group).mkdir(parents=True)
    (tmp_path / "my_conf" / "term" / "distance.yaml").write_text("_target_: my_package.FeatureDistance\n")
    (tmp_path / "my_conf" / "loss" / "distance.yaml").write_text(blocks("yaml")[0])
    done = command("train", "--config-dir", "my_conf", "loss=distance", "experiment=quickstart", "trainer.max_epochs=1",
                   "teacher.max_epochs=1", "baseline=false", "logger=csv", "hydra.run.dir=run")  # fmt: skip
    assert done.returncode == 0, done.stderr
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/distance", "train/kd", "train/cross_entropy"} <= set(header)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["loss"] == "distance"
