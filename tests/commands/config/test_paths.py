"""``~`` is the home folder in every path, and a relative path starts where the command was started."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from stkd_lightning.commands.config.paths import home_expanded, resolve_paths
from stkd_lightning.inference.load import load_student
from stkd_lightning.models import create_model
from stkd_lightning.utilities.errors import InputError
from tests.conftest import Command

OURS = "stkd_lightning.models.create_model"
CONFIG: dict[str, Any] = {
    "cache_dir": "~/cache", "runs": ["~/a", "b"], "images": "photos", "output": None, "checkpoint": "???",
    "dataset": {"data_dir": "~/data", "cache_dir": "${cache_dir}"}, "teacher": {"checkpoint": "pretrained"},
    "student": {"_target_": OURS, "weights": "s.pth"},
}  # fmt: skip


def resolved(start: Path, **changes: Any) -> dict[str, Any]:
    config = OmegaConf.create({**CONFIG, **changes})
    resolve_paths(config, start)
    plain = OmegaConf.to_container(config)
    assert isinstance(plain, dict)
    return {str(name): value for name, value in plain.items()}


def test_home_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path stays as the user wrote it, as do options that are no path."""
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("STKD_CACHE", "~/c")
    found = resolved(Path.cwd())
    assert (found["cache_dir"], found["runs"], found["images"]) == ("/home/me/cache", ["/home/me/a", "b"], "photos")
    assert (found["output"], found["checkpoint"]) == (None, "???")
    assert found["dataset"] == {"data_dir": "/home/me/data", "cache_dir": "${cache_dir}"}
    assert found["teacher"]["checkpoint"] == "pretrained"
    assert found["student"]["weights"] == "s.pth"
    assert os.environ["STKD_CACHE"] == "/home/me/c"


def test_relative_paths_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    found = resolved(Path("/start"))
    assert (found["cache_dir"], found["runs"]) == ("/home/me/cache", ["/home/me/a", "/start/b"])
    assert found["student"]["weights"] == "/start/s.pth"
    assert found["teacher"]["checkpoint"] == "pretrained"
    other = {"_target_": "torchvision.models.resnet18", "weights": "DEFAULT"}
    assert resolved(Path("/start"), student=other)["student"]["weights"] == "DEFAULT"


def test_interpolated_paths_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpolation stays where the path stays; one that cannot be read is left to the checks."""
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    changes: dict[str, Any] = {
        "seed": 1, "data_dir": "d${seed}", "dataset": {"data_dir": "${data_dir}", "cache_dir": "${cache_dir}"},
        "output": "${nope}", "checkpoint": "~/${seed}.pt", "images": "${seed}",
    }  # fmt: skip
    found = resolved(Path("/start"), **changes)
    assert (found["data_dir"], found["checkpoint"]) == ("/start/d1", "/home/me/1.pt")
    assert found["dataset"] == {"data_dir": "${data_dir}", "cache_dir": "${cache_dir}"}
    assert (found["output"], found["images"]) == ("${nope}", "${seed}")
    here = resolved(tmp_path, **changes)
    assert (here["data_dir"], here["checkpoint"]) == ("d${seed}", "/home/me/1.pt")


def test_home_in_arguments_that_hydra_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    arguments = ["--config-dir=~/conf", "-cp", "~/c", "seed=1", "'~'=~"]
    assert home_expanded(arguments) == ["--config-dir=/home/me/conf", "-cp", "/home/me/c", "seed=1", "'~'=~"]


def test_home_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    network = create_model("resnet8", num_classes=10)
    torch.save(network.state_dict(), tmp_path / "s.pth")
    again = create_model("resnet8", num_classes=10, weights="~/s.pth")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items())
    with pytest.raises(InputError, match=str(tmp_path / "x.ckpt")):
        load_student("~/x.ckpt")


def test_run_that_changes_the_folder_reads_what_was_checked(command: Command, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    torch.save(create_model("resnet8", num_classes=10).state_dict(), home / "s.pth")
    torch.save(create_model("resnet8", num_classes=10).state_dict(), tmp_path / "t.pth")
    options = ["experiment=quickstart", "logger=csv", "teacher=resnet8", "baseline=false", "trainer.max_epochs=1",
               "teacher.min_accuracy=0", "teacher.checkpoint=t.pth", "student.weights='~/s.pth'", "diagnostics=false",
               "hydra.run.dir='~/out/run'", "hydra.job.chdir=true"]  # fmt: skip
    done = command("train", *options, HOME=str(home), STKD_CACHE="cache")
    assert done.returncode == 0, done.stderr
    assert (home / "out" / "run" / "summary.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "home", "t.pth"]
    config = yaml.safe_load((home / "out" / "run" / "config.yaml").read_text())
    assert config["teacher"]["checkpoint"] == str(tmp_path / "t.pth")
