"""The commands of the README, run as a user runs them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from stkd_lightning.commands.config.compose import composed, composing
from stkd_lightning.commands.evaluate import evaluate
from stkd_lightning.utilities.errors import InputError
from tests.conftest import Command

TINY = ["experiment=quickstart", "trainer.max_epochs=1", "teacher.max_epochs=2", "teacher.min_accuracy=0", "logger=csv"]
NO_REPORT = "hydra.callbacks.comparison.report=false"  # which another test looks at


def test_quickstart(command: Command, tmp_path: Path) -> None:
    """A teacher, a student by STKD and the same student alone; the dashboards' run is read back in its own test."""
    done = command("train", "experiment=quickstart", "hydra.run.dir=run", "logger=csv", "cache_dir=cache")
    assert done.returncode == 0, done.stderr
    for words in ("teacher: training resnet20", "baseline: training resnet8", "student: training resnet8", "top-1"):
        assert words in done.stdout
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    student, alone, teacher = summary["student"], summary["baseline"], summary["teacher"]
    assert student["test"]["last"]["accuracy"] > 0.93
    assert student["test"]["last"]["accuracy"] > alone["test"]["last"]["accuracy"]
    assert teacher["test"]["last"]["accuracy"] > 0.96
    assert student["parameters"] == alone["parameters"] == 78_042 < teacher["parameters"]
    assert student["flops"] < teacher["flops"]
    assert summary["seed"] == 0
    assert {"torch", "lightning", "stkd-lightning"} <= set(summary["versions"])
    files = {str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("*") if p.is_file()}
    plain = {"config.yaml", "diagnostics.npz", "metrics.csv", "summary.json"}
    assert files == {"checkpoints/best.ckpt", "checkpoints/last.ckpt", *plain}
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss", "train/similarity", "val/accuracy", "val/agreement", "lr-SGD"} <= set(header)
    for name in ("last", "best"):
        content = torch.load(tmp_path / "run" / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert {k.split(".")[0] for k in content["state_dict"]} == {"student"}
        assert content["stkd_lightning"]["config"]["loss"]["alpha"] == 0.9

    evaluated = command("evaluate", "checkpoint=run", "cache_dir=cache", "output=figures/best.json", "trainer=cpu",
                        "corruptions=true", "figures=figures")  # fmt: skip
    assert evaluated.returncode == 0, evaluated.stderr
    for name in ("calibration", "class_accuracy", "confusion", "mistakes", "outcomes", "disagreements"):
        assert (tmp_path / "figures" / f"{name}.png").is_file()
    figures = json.loads((tmp_path / "figures" / "best.json").read_text())
    assert figures["accuracy"] == pytest.approx(student["test"]["selected"]["accuracy"])
    assert figures["teacher_accuracy"] == pytest.approx(teacher["test"]["last"]["accuracy"], abs=0.01)
    assert sum(figures["outcomes"].values()) == sum(row["images"] for row in figures["classes"]) == 450
    assert figures["outcomes"]["both"] + figures["outcomes"]["only_student"] == round(450 * figures["accuracy"])
    assert "student and teacher: both right" in evaluated.stdout
    distorted = figures["corruptions"]
    assert {name: len(each) for name, each in distorted.items()} == {"noise": 5, "blur": 5, "jpeg": 5}
    mean = sum(metrics["accuracy"] for each in distorted.values() for metrics in each) / 15
    assert f"test/accuracy on distorted images, mean: {mean:.4f}" in evaluated.stdout
    evaluated = command(
        "evaluate", "checkpoint=run/checkpoints/last.ckpt", "cache_dir=cache", "split=val", "trainer=cpu"
    )
    assert evaluated.returncode == 0, evaluated.stderr
    assert f"val/accuracy: {student['validation']['accuracy']:.4f}" in evaluated.stdout


def test_gradient_clipping_in_bfloat16_with_the_default_optimizer(command: Command, tmp_path: Path) -> None:
    options = ["precision=bf16-mixed", "trainer.gradient_clip_val=1.0", "baseline=false", "diagnostics=false"]
    done = command("train", *TINY, *options, "+trainer.enable_progress_bar=false", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert "Epoch" not in done.stdout
    files = {"checkpoints", "config.yaml", "metrics.csv", "summary.json"}
    assert {p.name for p in (tmp_path / "run").iterdir()} == files


def test_a_sweep_shares_one_teacher(command: Command, tmp_path: Path) -> None:
    done = command("train", "-m", "loss.alpha=0.5,0.9", "loss.temperature=2,4", *TINY, NO_REPORT, "cache_dir=cache")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("teacher: training") == 1
    assert done.stdout.count("baseline: training") == 1
    assert done.stdout.count("student: training") == 4
    summaries = [json.loads(p.read_text()) for p in tmp_path.glob("multirun/**/summary.json")]
    assert len(summaries) == 4
    assert len({(s["teacher"]["source"], s["teacher"]["digest"]) for s in summaries}) == 1
    trained = [p.name for p in (tmp_path / "cache" / "trained").iterdir() if p.is_dir()]
    assert len(trained) == 2


def test_cross_entropy_trains_no_teacher(command: Command, tmp_path: Path) -> None:
    done = command("train", *TINY, "loss=ce", "baseline=false", "cache_dir=cache", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert "teacher" not in done.stdout
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert "teacher" not in summary
    assert "agreement" not in summary["student"]["test"]["last"]


def test_a_loaded_teacher_is_used_and_never_trained(command: Command, tmp_path: Path) -> None:
    first = command("train", "experiment=quickstart", "loss=ce", "student=resnet20", "baseline=false", "logger=csv",
                    "hydra.run.dir=teacher", "cache_dir=one")  # fmt: skip
    assert first.returncode == 0, first.stderr
    done = command("train", *TINY, "teacher.checkpoint=teacher/checkpoints/last.ckpt",
                   "teacher.checkpoint_key=state_dict.student", "baseline=false",
                   "teacher.min_accuracy=0.5", "cache_dir=two", "hydra.run.dir=run")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "two" / "trained").exists()
    teacher = json.loads((tmp_path / "run" / "summary.json").read_text())["teacher"]
    expected = json.loads((tmp_path / "teacher" / "summary.json").read_text())["student"]["test"]["last"]["accuracy"]
    assert teacher["test"]["last"]["accuracy"] == pytest.approx(expected)


def test_without_validation_the_last_student_is_the_selected_one(command: Command, tmp_path: Path) -> None:
    done = command("train", *TINY, "dataset.validation_fraction=0", "baseline=false", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    student = json.loads((tmp_path / "run" / "summary.json").read_text())["student"]
    assert student["test"]["last"] == student["test"]["selected"]
    assert not (tmp_path / "run" / "checkpoints" / "best.ckpt").exists()


def test_published_protocol_reports_the_last_epoch(command: Command, tmp_path: Path) -> None:
    done = command("train", "experiment=[quickstart,published]", "loss=kd", "trainer.max_epochs=2", "logger=csv",
                   "baseline=false", "teacher=resnet8", "hydra.run.dir=run")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "(student of the last epoch)" in done.stdout
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["images"] == {"validation": 0, "test": 450}
    assert (summary["student"]["validation"], summary["student"]["selected_epoch"]) == ({}, 1)
    assert summary["student"]["test"]["last"] == summary["student"]["test"]["selected"]
    reported = command("report", "runs=run", "output=report")
    assert reported.returncode == 0, reported.stderr
    words = "the selected students. Without validation images these are the students of the last epoch."
    assert words in (tmp_path / "report" / "report.md").read_text()
    assert "The teacher on mixtures" in (tmp_path / "report" / "report.html").read_text()
    failed = command("train", "experiment=[quickstart,publishd]")
    assert (failed.returncode, "experiment 'publishd': unknown; did you mean published?" in failed.stderr) == (2, True)


def test_a_users_own_configuration(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine" / "student").mkdir(parents=True)
    (tmp_path / "mine" / "student" / "narrow.yaml").write_text(
        "_target_: own_network.Narrow\nnum_classes: ${num_classes}\nwidth: 8\n"
    )
    (tmp_path / "own_network.py").write_text(
        "from torch import nn\n"
        "class Narrow(nn.Sequential):\n"
        "    def __init__(self, num_classes, width):\n"
        "        super().__init__(nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),"
        " nn.Linear(width, num_classes))\n"
    )
    done = command("train", "--config-dir", "mine", *TINY, "student=narrow", "baseline=false", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["student"]["network"] == "Narrow"
    refused = command("evaluate", "checkpoint=run", "trainer=cpu")
    assert refused.returncode == 2
    assert (
        "wants to build own_network.Narrow, which is not part of this project; trust=true allows it" in refused.stderr
    )
    allowed = command("evaluate", "checkpoint=run", "trust=true", "trainer=cpu")
    assert allowed.returncode == 0, allowed.stderr


def test_network_with_its_own_input_is_measured_as_trained(command: Command, tmp_path: Path) -> None:
    """A student that has its images resized, and a teacher trained with other constants than the data's."""
    done = command("train", *TINY, "loss=ce", "baseline=false", "student=torchvision", "student.name=squeezenet1_1",
                   "student.input_size=32", "hydra.run.dir=run")  # fmt: skip
    assert done.returncode == 0, done.stderr
    evaluated = command("evaluate", "checkpoint=run/checkpoints/last.ckpt", "output=figures.json", "trainer=cpu")
    assert evaluated.returncode == 0, evaluated.stderr
    expected = json.loads((tmp_path / "run" / "summary.json").read_text())["student"]["test"]["last"]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["cross_entropy"] == pytest.approx(expected["cross_entropy"], rel=1e-5)
    content = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["stkd_lightning"]["input"]["size"] == 32

    content["stkd_lightning"]["input"]["mean"] = [0.5, 0.5, 0.5]
    torch.save(content, tmp_path / "other.ckpt")
    done = command("train", *TINY, "baseline=false", "teacher=torchvision", "teacher.network.name=squeezenet1_1",
                   "teacher.checkpoint=other.ckpt", "hydra.run.dir=second")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (
        "teacher: images are resized or normalized as in the teacher's training: 32 pixels, mean [0.5, 0.5, 0.5]"
        in done.stdout
    )


def test_a_hostile_checkpoint_builds_nothing(command: Command, tmp_path: Path) -> None:
    dataset = {"_target_": "stkd_lightning.data.DigitsDataModule"}
    evil = {"_target_": "numpy.save", "file": "pwned.npy", "arr": [1]}
    network = {"_target_": "stkd_lightning.models.create_model", "name": "resnet8", "num_classes": 10}
    reusing = "stkd_lightning.models.reuse_classifier"
    configs: list[Any] = [
        {"student": evil, "dataset": dataset},
        {"student": "${evil}", "evil": evil, "dataset": dataset},
        {"student": {**network, "weights": evil}, "dataset": dataset},
        {"student": {**network, "weights": "${oc.env:HOME}"}, "dataset": dataset},
        {"student": {**network, "name": "hf-hub:evil/model"}, "dataset": dataset},
        {"student": network, "dataset": {**dataset, "extra": [evil]}},
        {"student": network, "dataset": {**dataset, "padding": network}},
        {"student": {**network, "student": network}, "dataset": dataset},
        {"student": {"_target_": reusing, "student": network, "teacher": evil}, "dataset": dataset},
        {"student": {**network, "_partial_": True}, "dataset": dataset},
        {"student": {**network, 7: 7}, "dataset": dataset},
        "config",
    ]
    facts = {"class_names": list("0123456789"), "num_classes": 10}
    for i, config in enumerate(configs):
        path = tmp_path / f"{i}.ckpt"
        torch.save({"state_dict": {}, "stkd_lightning": {"config": config, "data": facts}}, path)
        with composing():
            asked = composed("evaluate", [f"checkpoint={path}", "trainer=cpu"])
        with pytest.raises(InputError, match=f"^checkpoint {path}: "):
            evaluate(asked)
    assert not list(tmp_path.glob("*.npy"))
    done = command("evaluate", "checkpoint=0.ckpt", "trainer=cpu")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: checkpoint 0.ckpt: wants to build numpy.save, which is not part of this project"
    )


def test_settings_that_libraries_refuse_are_found_beforehand(command: Command, tmp_path: Path) -> None:
    for arguments, words in (
        (["trainer.precision=fp16"], "error: trainer: ValueError: Precision 'fp16' is invalid"),
        (["optimizer.momentum=-1"], "error: optimizer: ValueError: Invalid momentum"),
        (["student=torchvision", "student.name=alexnet"], "network AlexNet: cannot take images of 8x8"),
        (["student=custom", "student._target_=torch.nn.Flatten"], "gives (192,) values for an image, the data has 10"),
    ):
        done = command("train", "experiment=quickstart", *arguments)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert "training" not in done.stdout
        assert not list(tmp_path.iterdir())


def test_the_teachers_settings_follow_the_students_unless_told(command: Command) -> None:
    first = command("train", *TINY, "baseline=false", "cache_dir=cache", "optimizer.weight_decay=0")
    second = command("train", *TINY, "baseline=false", "cache_dir=cache")
    third = command("train", *TINY, "baseline=false", "cache_dir=cache", "teacher.lr=0.01")
    again = command("train", *TINY, "baseline=false", "cache_dir=cache", "teacher.lr=0.01", "loss.alpha=0.5")
    trained = ["teacher: training" in run.stdout for run in (first, second, third, again)]
    assert trained == [True, True, True, False]
