"""The task seam: a task of another shape trains, resumes, is replayed, measured and reported with no other code."""

import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from stkd_lightning import DistillationModule, Mixup
from stkd_lightning.callbacks import Checkpoints, Seeding
from stkd_lightning.losses import CrossEntropyLoss, DKDLoss, KDLoss, Loss, STKDLoss
from stkd_lightning.teacher import FrozenTeacher
from tests.conftest import Command
from tests.tasks.pixels import PixelNetwork, PixelsDataModule

ROOT = Path(__file__).parents[2]
NETWORK = "tests.tasks.pixels.PixelNetwork"
OPTIONS = [
    "--config-dir", "conf", "dataset=pixels", "student=custom", f"student._target_={NETWORK}", "+student.width=4",
    "teacher=custom", f"teacher.network._target_={NETWORK}", "+teacher.network.width=16", "logger=csv",
    "trainer.max_epochs=3", "teacher.max_epochs=6", "optimizer.lr=0.2", "compile=false", "precision=32-true",
    "trainer=cpu",
]  # fmt: skip


def module(loss: Loss, mixup: Mixup | None, **options: Any) -> DistillationModule:
    torch.manual_seed(0)
    teacher, student = PixelNetwork(16), PixelNetwork(4)
    data = PixelsDataModule(options.pop("data_dir"))
    return DistillationModule(student, loss, FrozenTeacher(teacher), mixup, task=data.task, **options)


def trainer(folder: Path, module: DistillationModule, epochs: int) -> L.Trainer:
    kept = Checkpoints(folder, select=True, score=module.task.score)
    return L.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, callbacks=[kept, Seeding(0)], enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False,
    )  # fmt: skip


@pytest.mark.parametrize("mixup", [None, Mixup(alpha=1.0)], ids=["unmixed", "mixed"])
@pytest.mark.parametrize("loss", [CrossEntropyLoss, KDLoss, STKDLoss, DKDLoss])
def test_losses_train_a_class_for_each_pixel(loss: type[Loss], mixup: Mixup | None, tmp_path: Path) -> None:
    student = module(loss(), mixup, data_dir=tmp_path / "data")
    data = PixelsDataModule(tmp_path / "data", batch_size=16, flip=False, padding=0)
    run = trainer(tmp_path / "run", student, 2)
    run.fit(student, data)
    assert 0.3 < float(run.callback_metrics["val/pixel_accuracy"]) <= 1
    assert 0 <= float(run.callback_metrics["val/agreement"]) <= 1
    assert (tmp_path / "run" / "best.ckpt").is_file()


def test_resumed_training_of_pixels_is_bit_identical(tmp_path: Path) -> None:
    def fitted(folder: str, epochs: int, checkpoint: Path | None = None) -> DistillationModule:
        student = module(STKDLoss(), Mixup(alpha=1.0), data_dir=tmp_path / "data", schedule=lambda progress: 1.0)
        data = PixelsDataModule(tmp_path / "data", batch_size=16, flip=False, padding=0)
        trainer(tmp_path / folder, student, epochs).fit(student, data, ckpt_path=checkpoint)
        return student

    whole = fitted("whole", 3)
    fitted("parts", 1)
    resumed = fitted("parts", 3, tmp_path / "parts" / "last.ckpt")
    for name, value in whole.student.state_dict().items():
        assert torch.equal(resumed.student.state_dict()[name], value), name


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    """Write the data set's configuration beside the runs, and let commands import its modules from there."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    (tmp_path / "conf" / "dataset" / "pixels.yaml").write_text(
        "_target_: tests.tasks.pixels.PixelsDataModule\ndata_dir: data\nbatch_size: 16\nvalidation_fraction: 0\n"
        "flip: false\npadding: 0\nseed: ${seed}\ncache_dir: ${cache_dir}\n"
    )
    return OPTIONS


def test_commands_train_evaluate_and_report_pixels(command: Command, settings: list[str], tmp_path: Path) -> None:
    for loss in ("kd", "stkd"):
        for _ in range(2 if loss == "stkd" else 1):  # the second run reads the teacher's logits that the first wrote
            done = command("train", *settings, f"loss={loss}", f"hydra.run.dir=runs/{loss}", "resume=false",
                           "teacher.replay=true", "baseline=true", cwd=tmp_path)  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert "pixels  selected" in done.stdout
        assert (loss != "stkd") or "are read from" in done.stdout
    summary = json.loads((tmp_path / "runs" / "stkd" / "summary.json").read_text())
    assert summary["score"] == {"name": "pixel_accuracy", "higher": True, "unit": "%"}
    measured = command("evaluate", "checkpoint=runs/stkd/checkpoints/last.ckpt", "trust=true", cwd=tmp_path)
    assert measured.returncode == 0, measured.stderr
    figure = summary["student"]["test"]["last"]["pixel_accuracy"]
    assert f"test/pixel_accuracy: {figure:.4f}" in measured.stdout
    reported = command("report", "runs=runs", "output=page", "latency=false", cwd=tmp_path)
    assert reported.returncode == 0, reported.stderr
    page = (tmp_path / "page" / "report.html").read_text()
    assert "pixel_accuracy" in page


def test_two_ranks_train_pixels(fresh_command: Command, settings: list[str], tmp_path: Path) -> None:
    done = fresh_command("train", *settings, "loss=stkd", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2",
                   "hydra.run.dir=run", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    test = json.loads((tmp_path / "run" / "summary.json").read_text())["student"]["test"]["last"]
    assert 0.3 < test["pixel_accuracy"] <= 1
