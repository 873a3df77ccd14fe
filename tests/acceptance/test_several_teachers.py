"""Several teachers, and students of earlier runs as teachers, as a user types them."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from omegaconf import OmegaConf

from stkd_lightning.commands.training.chain import check_classes
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.inference.load import load_student
from stkd_lightning.models.checkpoint_file import KEY
from stkd_lightning.tasks.classification import Classification
from stkd_lightning.teacher import Ensemble, FrozenTeacher
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.files import BEST
from tests.conftest import Command
from tests.tagging import NETWORKS, SCHEDULE

TINY = [
    "experiment=quickstart", "trainer.max_epochs=1", "teacher.max_epochs=2", "teacher.min_accuracy=0", "logger=csv",
    "baseline=false", "diagnostics=false", "loss=kd", "cache_dir=cache",
]  # fmt: skip
MEMBERS = [
    "teacher=ensemble", "+teacher@teacher.members.a=chain", "teacher.members.a.run=first",
    "+teacher@teacher.members.b=resnet8", "teacher.weights={a:2}",
]  # fmt: skip


def summary_of(folder: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


def test_chain_and_ensemble(command: Command, tmp_path: Path) -> None:
    """A student, an ensemble of it and of its own teacher, and a student of the ensemble's student."""
    done = command("train", *TINY, "teacher=resnet8", "hydra.run.dir=first")
    assert done.returncode == 0, done.stderr
    done = command("train", *TINY, *MEMBERS, "teacher.replay=true", "hydra.run.dir=second")
    assert done.returncode == 0, done.stderr
    assert "teacher: already trained" in done.stdout  # the member has the recipe of the first run's teacher
    first, second = summary_of(tmp_path / "first"), summary_of(tmp_path / "second")
    checkpoints = [tmp_path / "first" / "checkpoints" / BEST, Path(first["teacher_checkpoint"])]
    networks = [load_student(checkpoint).network for checkpoint in checkpoints]
    teacher = second["teacher"]
    assert teacher["digest"] == FrozenTeacher(Ensemble(networks, [2, 1], temperature=4.0)).digest
    assert teacher["network"] == "resnet8 + resnet8"
    assert teacher["parameters"] == 2 * first["student"]["parameters"]
    assert teacher["source"].startswith("ensemble of a (run first: resnet8 taught by resnet8), b (trained here, ")
    again = command("train", *TINY, *MEMBERS, "teacher.replay=true", "hydra.run.dir=again")
    assert "teacher: logits are read from" in again.stdout
    assert summary_of(tmp_path / "again")["student"] == second["student"]

    done = command("train", *TINY, "teacher=chain", "teacher.run=second", "hydra.run.dir=third")
    assert done.returncode == 0, done.stderr
    third = summary_of(tmp_path / "third")
    assert third["teacher"]["source"] == "run second: resnet8 taught by resnet8 + resnet8"
    selected = second["student"]["test"]["selected"]["accuracy"]
    assert third["teacher"]["test"]["last"]["accuracy"] == pytest.approx(selected)
    (tmp_path / "third" / "summary.json").unlink()
    (tmp_path / "second").rename(tmp_path / "moved")
    resumed = command("train", *TINY, "teacher=chain", "teacher.run=moved", "hydra.run.dir=third", "resume=auto")
    assert resumed.returncode == 0, resumed.stderr
    assert summary_of(tmp_path / "third")["student"]["test"] == third["student"]["test"]

    evaluated = command("evaluate", "checkpoint=moved", "trainer=cpu", "cache_dir=cache", "output=figures.json")
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads((tmp_path / "figures.json").read_text())["accuracy"] == pytest.approx(selected)
    reported = command("report", "runs=[first,moved,third]", "output=report")
    assert reported.returncode == 0, reported.stderr
    assert "warning" not in reported.stderr
    assert "digits, resnet8 + resnet8 → resnet8" in (tmp_path / "report" / "report.md").read_text()

    swept = command("train", "-m", *TINY, "loss=ce,sp,dkd", *MEMBERS, "hydra.sweep.dir=sweep")
    assert swept.returncode == 0, swept.stderr
    assert "loss=sp: reads layers of the teacher, and teacher=ensemble has none; try loss=kd" in swept.stdout
    assert [path.parent.name for path in sorted(tmp_path.glob("sweep/*/summary.json"))] == ["0", "2"]
    chained = command("train", *TINY, "loss=simkd", "teacher=chain", "teacher.run=first", "hydra.run.dir=simkd")
    assert chained.returncode == 0, chained.stderr

    chain = OmegaConf.create({"run": "first", "checkpoint": str(checkpoints[0])})
    for names, message in (
        (("0", "1"), "teacher.run=first: its student has 10 classes, and photos has 2"),
        (tuple("012345678x"), r"learned other classes \(digits\), for example '9' instead of 'x'"),
    ):
        data = SimpleNamespace(name="photos", task=Classification(), class_names=names)
        with pytest.raises(InputError, match=message):
            check_classes(chain, cast(ArrayDataModule, data))
    for name, change, message in (
        ("foreign", {"student": {"_target_": "os.system", "command": "true"}}, "teacher.trust=true"),
        ("resolved", {"teacher": {"network": {"name": "${oc.env:HOME}"}}}, "names that are none, or interpolations"),
        ("lineage", {"teacher": {"lineage": 5}}, "its configuration has another form"),
    ):
        content = torch.load(checkpoints[0], weights_only=True)
        content[KEY]["config"] |= change
        torch.save(content, tmp_path / f"{name}.ckpt")
        refused = command("train", *TINY, "teacher=chain", f"teacher.run={name}.ckpt", "hydra.run.dir=refused")
        assert (refused.returncode, message in refused.stderr) == (2, True), refused.stderr
    for options, message in (
        (["teacher.run=cache"], "teacher.run=cache: is not the folder of a run; it has no checkpoints/best.ckpt or"),
        (["teacher.run=first/summary.json"], "checkpoint first/summary.json: damaged or not a checkpoint"),
        (["teacher.run=first", "teacher.min_accuracy=1.1"], "is below teacher.min_accuracy=1.1"),
        (
            ["teacher.run=first", "dataset=synthetic_sounds", "student=cnn", "student.front_end.f_max=null"],
            "teacher.run=first: its student is for classification, and synthetic_sounds is data of tagging",
        ),
    ):
        refused = command("train", *TINY, "teacher=chain", *options, "hydra.run.dir=refused")
        assert (refused.returncode, message in refused.stderr) == (2, True), refused.stderr
        assert not (tmp_path / "refused").exists()


def test_segmentation(command: Command, segmentation: Path, tmp_path: Path) -> None:
    options = [
        "dataset=image_mask_folder", f"dataset.data_dir={segmentation / 'data'}", "dataset.batch_size=4", "loss=kd",
        "student=dilated_resnet", "student.width=4", "teacher=ensemble", "teacher.min_accuracy=0", "trainer=cpu",
        "+teacher@teacher.members.a=chain", f"teacher.members.a.run={segmentation / 'run'}",
        "+teacher@teacher.members.b=dilated_resnet", "teacher.members.b.network.width=8", "precision=32-true",
        "trainer.max_epochs=1", "compile=false", "logger=csv", "hydra.run.dir=run",
    ]  # fmt: skip
    done = command("train", *options)
    assert done.returncode == 0, done.stderr
    teacher = summary_of(tmp_path / "run")["teacher"]
    assert teacher["network"] == "DilatedResNet-w4 + DilatedResNet-w8"
    assert 0 < teacher["test"]["last"]["miou"] < 1


def test_tags(command: Command, tagging: Path, tmp_path: Path) -> None:
    options = [
        "dataset=audio_folder", f"dataset.data_dir={tagging / 'data'}", "dataset.sample_rate=8000", "loss=kd",
        *(option for option in NETWORKS if not option.startswith("teacher")), *SCHEDULE, "teacher=ensemble",
        "+teacher@teacher.members.a=chain", f"teacher.members.a.run={tagging / 'run'}",
        "+teacher@teacher.members.b=cnn", *(o.replace("teacher.", "teacher.members.b.") for o in NETWORKS[-2:]),
    ]  # fmt: skip
    done = command("train", *options, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert summary_of(tmp_path / "run")["teacher"]["network"] == "crnn-w8 + cnn-w4"
