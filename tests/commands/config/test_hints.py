"""What to write instead: overrides that cannot be read, flags that do not exist, values without a sweep."""

import shlex
import sys

import pytest

from stkd_lightning.commands.config.arguments import read_arguments
from stkd_lightning.commands.config.compose import composed, composing, flags_instead
from stkd_lightning.commands.config.hints import nearest
from stkd_lightning.commands.config.sweeps import jobs
from stkd_lightning.utilities.errors import InputError


def refusal(*overrides: str) -> str:
    with composing(), pytest.raises(InputError) as error:
        composed("train", jobs(list(overrides), {}, multirun=False)[0])
    return str(error.value)


@pytest.mark.parametrize(
    "value",
    [
        "out/epoch=3",
        "~/runs",
        "photos[1]",
        "a(b)",
        "it's",
        "a#b",
        "é",
        'say "x"',
        "a;b&c",
        "$x=1",
        "`x`=1",
        "a,",
        "x'y\"z",
    ],
)
def test_unreadable_value_is_shown_quoted(value: str) -> None:
    message = refusal("loss=kd", f"dataset.data_dir={value}", "seed=1")
    assert message.startswith(f"dataset.data_dir={value}: this value needs quotes; write ")
    (override,) = shlex.split(message.partition("write ")[2])  # as a shell reads it
    with composing():
        assert composed("train", [override]).dataset.data_dir == value


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["loss.alpha=[1"], "loss.alpha=[1: brackets or quotes do not match; as one text, write \"loss.alpha='[1'\""),
        (["dataset.data_dir='a"], "dataset.data_dir='a: brackets or quotes do not match"),
        (["dataset.data_dir=my", "photos"], "a value with a space needs quotes: \"dataset.data_dir='my photos'\""),
        (["quickstart"], "quickstart: has no name; write experiment=quickstart"),
        (["resnet8"], "resnet8: has no name; write student=resnet8 or teacher=resnet8"),
        (["loss", "=", "kd"], "loss: has no value; write loss=VALUE"),
        (["something"], "something: an option is written NAME=VALUE; see --help"),
        (["a b=3"], "a b=3: cannot be read; an option is written NAME=VALUE"),
        (["loss=kd,stkd"], "loss=kd,stkd: several values are a sweep, which needs -m; write -m loss=kd,stkd"),
        (["seed=1,2"], 'which needs -m; write -m seed=1,2; as one list write "seed=[1,2]"'),
        (["seed=range(3)"], "seed=range(3): several values are a sweep, which needs -m"),
        (["+seed=1"], "+seed=1: this option exists; write seed=1"),
        (["loss=kd", "epochs=3"], "option 'epochs': unknown; did you mean trainer.max_epochs?"),
        (["trainer.fast_dev_run=true"], "trainer.fast_dev_run: writes no checkpoint; experiment=smoke runs one batch"),
        (["trainer.profiler=simple"], "option 'trainer.profiler': is not in conf/; add it with +: \"+trainer.prof"),
        (["optimizer.foreach=true"], "add it with +: \"+optimizer.foreach=true\""),
        (["trainer.min_epochs=1"], "add it with +: \"+trainer.min_epochs=1\""),
        (["trainer.max_epoch=3"], "option 'trainer.max_epoch': unknown; did you mean trainer.max_epochs? all of"),
        (["optimizer.learning_rate=1"], "unknown; did you mean optimizer.lr? all of optimizer: "),
        (["trainer.profilr=simple"], "option 'trainer.profilr': unknown; did you mean"),
        (["seed=1", "loss.alpha.x=1", "loss=kd"], "loss.alpha.x"),
        (["teacher.dataset.crop=[64,64]"], "is set as a whole; write \"teacher.dataset={crop:[64,64]}\""),
        (["pretraining.dataset.flip=false"], "write \"pretraining={dataset:{flip:false}}\""),
    ],
)  # fmt: skip
def test_mistake_is_answered_with_what_to_write(overrides: list[str], words: str) -> None:
    assert words in refusal(*overrides)
    assert "seed=1 loss" not in refusal(*overrides)  # one option is named, not the whole command


def test_class_that_cannot_be_imported_prints_nothing(caplog: pytest.LogCaptureFixture) -> None:
    message = refusal("+callbacks.mine._target_=nowhere.Mine", "callbacks.mine.every=3")
    assert message.startswith("option 'callbacks.mine.every': unknown; ")
    assert caplog.records == []


@pytest.mark.parametrize(
    ("command", "words", "instead"),
    [
        ("train", "--epochs 3", "trainer.max_epochs=3"),
        ("train", "--epochs=3 loss=kd --lr 0.1", "trainer.max_epochs=3 optimizer.lr=0.1"),
        ("train", "--loss kd", "loss=kd"),
        ("train", "--experiment smoke", "experiment=smoke"),  # no abbreviation of --experimental-rerun
        ("train", "--batch-size 32", "dataset.batch_size=32"),
        ("train", "--wd 1e-4", "optimizer.weight_decay=1e-4"),
        ("train", "--learning-rate 1", "optimizer.lr=1"),
        ("train", "--alpha 1", "loss.alpha=1 or mixup.alpha=1"),
        ("train", "-seed 1", "seed=1"),
        ("train", "--baseline", "baseline=true"),
        ("train", "--fast-dev-run", "experiment=smoke"),
        ("train", "--profiler simple", "+trainer.profiler=simple"),
        ("predict", "--output a.csv", "output=a.csv"),
    ],
)
def test_flag_is_answered_with_the_override(
    command: str, words: str, instead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", *words.split()])
    _, flags = read_arguments()
    with composing():
        assert str(flags_instead(flags, command, None)).endswith(f": no such flag; write {instead}")


def test_unknown_flag_is_refused_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "--db-password=zq7secret"])
    _, flags = read_arguments()
    with composing():
        message = str(flags_instead(flags, "train", None))
    assert message == "--db-password: no such flag; options are written NAME=VALUE; see --help"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("experiment=quickstart -m loss=kd,stkd", "--multirun experiment=quickstart loss=kd,stkd"),
        ("a=1 --config-dir mine b=2 -c job c=3", "--cfg=job --config-dir=mine a=1 b=2 c=3"),
        ("a=1 -p loss --info=all", "--package=loss --info=all a=1"),
        ("a=1 b=2", "a=1 b=2"),
    ],
)
def test_flags_may_stand_after_overrides(given: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train", *given.split()])
    arguments, flags = read_arguments()
    assert flags == []
    assert sys.argv == ["train", *expected.split()]  # which Hydra's own parser reads
    assert arguments.overrides == [word for word in expected.split() if not word.startswith("-")]


def test_wrong_value_of_a_flag_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "--cfg", "everything"])
    with pytest.raises(InputError, match=r"argument --cfg/-c: invalid choice: 'everything'"):
        read_arguments()


def test_nearest_prefers_the_students_training() -> None:
    options = ["teacher.lr", "optimizer.lr", "teacher.max_epochs", "trainer.max_epochs", "loss.losses.a.lr_x"]
    assert nearest("lr", options) == ["optimizer.lr"]
    assert nearest("epochs", options) == ["trainer.max_epochs"]
    assert nearest("nothing", options) == []
