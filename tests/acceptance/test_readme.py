"""The commands and files in the README and in docs/ work as they are shown."""

import json
import re
import shlex
from pathlib import Path

import pytest

from stkd_lightning.commands.config.checks import check
from stkd_lightning.commands.config.compose import composed, composing
from stkd_lightning.commands.config.sweeps import jobs
from tests.conftest import Command

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
OWN_LOSS = (ROOT / "docs" / "own-loss.md").read_text()
PAGES = README + "".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))
OTHER = r"-m stkd_lightning\.((?:evaluate|report|export|predict|cache) .*)"


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands() -> list[str]:
    lines = "".join(blocks(PAGES, "sh")).replace("\\\n", " ").splitlines()
    found = [
        line.split("#")[0].split("-m stkd_lightning.train", 1)[1] for line in lines if "stkd_lightning.train" in line
    ]
    return sorted({" ".join(arguments.split()) for arguments in found if "--help" not in arguments})


@pytest.mark.parametrize("arguments", commands())
def test_commands_compose(arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for file in (
        "t.pth",
        "resnet56.pth",
        "resnet20.safetensors",
        "outputs/2026-01-31/12-00-00/checkpoints/best.ckpt",
    ):  # that some read
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    with composing():
        for overrides in jobs([o for o in shlex.split(arguments) if o != "-m"], {}):
            check(composed("train", overrides))


def test_there_are_commands() -> None:
    assert len(commands()) >= 20


def other_commands() -> list[str]:
    lines = "".join(blocks(PAGES, "sh")).replace("\\\n", " ").splitlines()
    return sorted({found[1].strip() for line in lines if (found := re.search(OTHER, line.split("#")[0]))})


@pytest.mark.parametrize("words", other_commands())
def test_other_commands_compose(words: str) -> None:
    name, *overrides = shlex.split(words)
    with composing():
        assert composed(name, overrides).hydra.job.config_name == name


def test_there_are_other_commands() -> None:
    assert {words.split()[0] for words in other_commands()} == {"evaluate", "report", "export", "predict", "cache"}


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200


def test_readme_links_every_page() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in README, page.name


def test_an_own_loss(command: Command, tmp_path: Path) -> None:
    (code,) = [b for b in blocks(OWN_LOSS, "python") if "class FeatureDistance" in b]
    (tmp_path / "my_package.py").write_text(code)
    for group in ("term", "loss"):
        (tmp_path / "my_conf" / group).mkdir(parents=True)
    term, loss = blocks(OWN_LOSS, "yaml")
    (tmp_path / "my_conf" / "term" / "distance.yaml").write_text(term)
    (tmp_path / "my_conf" / "loss" / "distance.yaml").write_text(loss)
    done = command("train", "--config-dir", "my_conf", "loss=distance", "experiment=quickstart", "trainer.max_epochs=1",
                   "teacher.max_epochs=1", "baseline=false", "logger=csv", "hydra.run.dir=run")  # fmt: skip
    assert done.returncode == 0, done.stderr
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/distance", "train/kd", "train/cross_entropy"} <= set(header)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["loss"] == "distance"
