"""``--help`` of a command, a group and an option; the plan of a training without options."""

from argparse import Namespace
from pathlib import Path

import pytest
from hydra import compose

from stkd_lightning.commands.config.comments import read_comments
from stkd_lightning.commands.config.compose import composing
from stkd_lightning.commands.help import help_text
from stkd_lightning.commands.plan import CLASSES, SIDE, plan_text
from stkd_lightning.utilities.errors import InputError
from tests.commands.config.composed import COMMANDS
from tests.conftest import Command


def text_of(command: str, *overrides: str, config_dir: str | None = None) -> str:
    with composing():
        return help_text(command, Namespace(overrides=list(overrides), config_dir=config_dir))


def test_comments_of_a_file_are_read() -> None:
    found = read_comments(
        "# @package _global_\n# What it is.\n# How to use it.\ndefaults: [a]\n"
        "a: 1   # one\nurl: 'x#y'\nb:\n  # above\n  c: null\n  d: {e: 1}   # last # of all\nf: 2\n"
    )
    assert found.header == ["What it is.", "How to use it."]
    assert found.options == {"a": "one", "b.c": "above", "b.d": "last # of all"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_a_commands_own_options(command: str) -> None:
    text = text_of(command)
    assert f"python -m stkd_lightning.{command} " in text
    assert "$" not in text.replace("${", "").replace("$STKD_CACHE", "")
    assert "\nhydra" not in text
    assert "--hydra-help" in text
    listed = text.partition("== Choices")[2].partition("== Options")[0]
    assert ("loss: at, cat_kd" in listed) == (command == "train")
    assert ("format: onnx" in listed) == (command == "export")
    assert " _" not in listed
    with composing():
        options = text.partition("== Options")[2]
        assert all(f"\n{name}" in options for name in map(str, compose(command)) if f"\n{name}:" not in listed)


def test_help_of_a_group_shows_choices_and_options() -> None:
    text = text_of("train", "loss")
    assert "\n  kd                     Distillation of softened logits on unmixed images (arXiv:1503.02531)." in text
    assert "\nOptions of loss=stkd:\n" in text
    assert "\nloss.temperature=4.0        > 0\n" in text
    assert "optimizer.lr=0.001" in text_of("train", "optimizer=adamw", "optimizer")


def test_help_of_an_option_shows_its_comment() -> None:
    assert text_of("train", "loss.alpha").startswith("loss.alpha=0.9  in [0, 1]; alpha and temperature are KD's")
    assert text_of("train", "loss=kd", "loss.alpha").endswith("RepDistiller's for CIFAR")
    assert text_of("train", "teacher.seed").endswith("Its seed does not follow the student's.")
    assert text_of("predict", "top") == "top=5  number of classes or tags to report per file"
    assert text_of("train", "quickstart").startswith("experiment=quickstart\nA first run on real handwritten digits")


def test_help_shows_a_users_own_choices(tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "mine.yaml").write_text("# My network.\n_target_: mine.Net\nwidth: 3   # of its layers\n")
    folder = str(tmp_path)
    assert (
        "mine" in text_of("train", "student=mine", config_dir=folder).partition("student: ")[2].partition("teacher")[0]
    )
    text = text_of("train", "student=mine", "student", config_dir=folder)
    assert "My network." in text.partition("Options of")[0]
    assert text.split()[-4:] == ["student.width=3", "of", "its", "layers"]
    assert text_of("train", "mine", config_dir=folder) == "student=mine\nMy network."


def test_help_of_a_sweep_is_of_its_first_job() -> None:
    assert text_of("train", "loss=kd,stkd", "loss.alpha") == text_of("train", "loss=kd", "loss.alpha")


def test_help_hides_credentials() -> None:
    assert "zq7" not in text_of("train", "+db.password=zq7", "db")


def test_help_of_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match=r"^--help epochs: no such group or option; did you mean trainer.max_epochs\?"):
        text_of("train", "epochs")


def test_plan_is_of_the_default_run() -> None:
    text = plan_text()
    with composing():
        config = compose("train")
    for part in (f"{config.trainer.max_epochs} epochs", config.student.name, config.teacher.network.name, "cifar100"):
        assert part in text
    assert config.dataset._target_.endswith("CIFAR100DataModule")
    assert (CLASSES, SIDE) == (100, 32)
    assert "experiment=smoke" in text


def test_train_without_options_starts_nothing(command: Command, tmp_path: Path) -> None:
    done = command("train")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Without options the default run would be trained. Nothing has been started")
    assert "about" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_version_is_ours(command: Command) -> None:
    assert command("evaluate", "--version").stdout.startswith("stkd-lightning ")
