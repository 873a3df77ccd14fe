"""Networks of others as teachers and students, as a user types them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from stkd_lightning.data import DigitsDataModule
from stkd_lightning.inference.load import load_student
from stkd_lightning.models import create_model
from stkd_lightning.teacher import FrozenTeacher
from tests.conftest import Command
from tests.huggingface import saved

TINY = [
    "experiment=quickstart", "trainer.max_epochs=1", "teacher.max_epochs=2", "teacher.min_accuracy=0", "logger=csv",
    "baseline=false", "diagnostics=false", "cache_dir=cache",
]  # fmt: skip
BUILT = ["teacher=custom", "teacher.network._target_=ready.network", "teacher.checkpoint=as_built"]
READY = """
from stkd_lightning.inference.load import load_student
from stkd_lightning.models import create_model

def network(weights="teacher.ckpt"):
    return create_model("resnet8", num_classes=10, weights=weights)

def pair():
    return network(), "its transform"
"""


def summary_of(folder: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a resnet8 that tells the digits apart."""
    network, data = create_model("resnet8", num_classes=10), DigitsDataModule(seed=0)
    data.prepare_data()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for images, labels, *_ in data.train_dataloader():
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    path = tmp_path_factory.mktemp("trained") / "resnet8.pth"
    torch.save(network.state_dict(), path)
    return path


def test_a_function_returns_the_trained_teacher(command: Command, tmp_path: Path, trained: Path) -> None:
    """It is measured, taught with, identified by its weights, and no later command needs it."""
    (tmp_path / "ready.py").write_text(READY)
    (tmp_path / "teacher.ckpt").write_bytes(trained.read_bytes())
    options = [*TINY, *BUILT, "loss=kd", "teacher.min_accuracy=null", "teacher.replay=true"]
    done = command("train", *options, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert "teacher: network (as_built), accuracy " in done.stdout
    assert "teacher: training" not in done.stdout
    digest = FrozenTeacher(create_model("resnet8", num_classes=10, weights=trained)).digest
    summary = summary_of(tmp_path / "run")
    assert (summary["teacher"]["digest"], summary["teacher_checkpoint"]) == (digest, None)
    again = command("train", *options, "hydra.run.dir=again")
    assert "teacher: logits are read from" in again.stdout
    for name, arguments in (("evaluate", ["checkpoint=run", "trainer=cpu"]), ("report", ["runs=[run,again]"])):
        later = command(name, *arguments, "cache_dir=cache")
        assert later.returncode == 0, later.stderr

    (tmp_path / "run" / "summary.json").unlink()
    torch.save(create_model("resnet8", num_classes=10).state_dict(), tmp_path / "teacher.ckpt")
    other = command("train", *options, "teacher.min_accuracy=0", "hydra.run.dir=run", "resume=auto")
    assert other.returncode == 2
    assert "resume: the teacher differs from the teacher of" in other.stderr
    assert "(as_built: the same weights in every run)" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["+teacher.network.weights=null", "teacher.min_accuracy=null"], "teacher network (as_built): accuracy "),
        (["teacher.network._target_=ready.pair"], "ready.pair: returns a tuple, not a network (torch.nn.Module)"),
        (["teacher.checkpoint=as_build"], "teacher.checkpoint=as_build: no such file; did you mean as_built?"),
        (["teacher.checkpoint_key=student"], "teacher.checkpoint_key: chooses weights of a file, and as_built reads"),
    ],
)
def test_bad_built_teachers_are_refused(
    arguments: list[str], words: str, command: Command, tmp_path: Path, trained: Path
) -> None:
    (tmp_path / "ready.py").write_text(READY)
    (tmp_path / "teacher.ckpt").write_bytes(trained.read_bytes())
    done = command("train", *TINY, *BUILT, *arguments, "loss=kd")
    assert done.returncode == 2, done.stdout
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_student_starts_from_a_file(command: Command, tmp_path: Path, trained: Path) -> None:
    """The file belongs to the run's identity, its name does not; and no later command needs it."""
    start, moved = tmp_path / "start.pth", tmp_path / "moved.pth"
    start.write_bytes(trained.read_bytes())
    options = [*TINY, "teacher=resnet8", "student=resnet8", "loss=simkd", "optimizer.lr=1e-18"]
    done = command("train", *options, f"student.checkpoint={start}", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    start.rename(moved)
    done = command("evaluate", "checkpoint=run", "trainer=cpu", "cache_dir=cache")
    assert done.returncode == 0, done.stderr
    network = load_student(tmp_path / "run").network
    torch.testing.assert_close(network.state_dict()["conv1.weight"], torch.load(trained)["conv1.weight"])

    (tmp_path / "run" / "summary.json").unlink()
    torch.save(create_model("resnet8", num_classes=10).state_dict(), start)
    for path, code in ((start, 2), (moved, 0)):
        done = command("train", *options, f"student.checkpoint={path}", "hydra.run.dir=run", "resume=auto")
        assert done.returncode == code, done.stderr
        words = "resume: the weights in student.checkpoint differ from those that"
        assert (words in done.stderr) == (code == 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["student.checkpoint=nowhere.pth"], "checkpoint nowhere.pth: no such file"),
        (
            ["student.checkpoint_key=a"],
            "chooses weights of a checkpoint, but student.checkpoint is not set",
        ),
        (["student.checkpoint=t.pth", "student.weights=t.pth"], "student.weights is set, too; set only one"),
        (["student.checkpoint=t.pth"], "checkpoint t.pth: made for 7 classes, the data has 10 (fc.weight)"),
    ],
)
def test_bad_starts_are_refused(arguments: list[str], words: str, command: Command, tmp_path: Path) -> None:
    torch.save(create_model("resnet8", num_classes=7).state_dict(), tmp_path / "t.pth")
    done = command("train", *TINY, "student=resnet8", *arguments, "loss=kd")
    assert done.returncode == 2, done.stdout
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_networks_of_hugging_face(command: Command, tmp_path: Path) -> None:
    """Later commands need no folder of theirs; a resumed run notices other weights in it."""
    digits = [str(i) for i in range(10)]
    saved("vit", tmp_path / "big", classes=10, names=digits[::-1])
    saved("resnet", tmp_path / "small", classes=4)
    student = ["student=huggingface", "student.name=small", "student.pretrained=true"]
    options = [*TINY, "teacher=huggingface", "teacher.network.name=big", "teacher.min_accuracy=1e-9",
               *student, "loss=kd", "hydra.run.dir=run"]  # fmt: skip
    done = command("train", *options)
    assert done.returncode == 0, done.stderr
    assert "Loading weights" not in done.stdout + done.stderr
    assert "teacher: big (as_built), accuracy " in done.stdout
    assert "16 pixels, bicubic, mean [0.1, 0.2, 0.3]" in done.stdout
    summary = summary_of(tmp_path / "run")
    assert (summary["student"]["network"], summary["teacher"]["network"]) == ("small", "big")
    (tmp_path / "run" / "summary.json").unlink()
    saved("resnet", tmp_path / "small", classes=4)
    other = command("train", *options, "resume=auto")
    assert other.returncode == 2
    assert "resume: student.revision=" in other.stderr
    for name in ("big", "small"):
        shutil.rmtree(tmp_path / name)
    for arguments in (["evaluate", "trainer=cpu", "cache_dir=cache"], ["export", "format=safetensors", "output=out"]):
        done = command(*arguments, "checkpoint=run")
        assert done.returncode == 0, done.stderr
    assert load_student(tmp_path / "out")(torch.zeros(2, 3, 8, 8)).shape == (2, 10)


def test_a_teacher_of_other_classes_teaches_by_its_features(command: Command, tmp_path: Path) -> None:
    torch.save(create_model("resnet14", num_classes=37).state_dict(), tmp_path / "t.pth")
    teacher = ["teacher=resnet14", "teacher.network.num_classes=37", "teacher.checkpoint=t.pth"]
    options = [*TINY, *teacher, "teacher.min_accuracy=null", "diagnostics=64"]
    done = command("train", *options, "loss=sp", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    line = "teacher: resnet14 (t.pth) has 37 classes, digits has 10; its accuracy, agreement and divergence are left"
    assert line in " ".join(done.stdout.split())
    summary = summary_of(tmp_path / "run")
    assert (summary["teacher"]["test"], summary["teacher"]["network"]) == ({}, "resnet14")
    assert not {"agreement", "teacher_kl", "teacher_accuracy"} & set(summary["student"]["test"]["last"])
    reported = command("report", "runs=run", "output=report", "cache_dir=cache")
    assert reported.returncode == 0, reported.stderr
    assert "warning" not in reported.stderr + reported.stdout
    for loss in (["loss=kd"], ["loss=cckd"], ["loss=sp", "mixup=uncertain", "mixup.score=teacher"]):
        done = command("train", *options, *loss)
        assert done.returncode == 2, done.stdout
        assert "losses that read features alone learn from it: loss=sp, loss=rkd" in done.stderr
    done = command("train", *options, "loss=cckd", "~term@loss.losses.kd", "+term@loss.losses.ce=ce")
    assert done.returncode == 0, done.stderr
