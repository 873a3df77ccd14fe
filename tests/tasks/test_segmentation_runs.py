"""Runs of a segmentation student: in Python, over ranks, traced, resumed, and by the commands."""

import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from stkd_lightning import DistillationModule, Mixup
from stkd_lightning.callbacks import Checkpoints, Seeding
from stkd_lightning.commands.training import teacher as teachers
from stkd_lightning.commands.training.fit import _without_prefix
from stkd_lightning.distillation import epoch_steps
from stkd_lightning.losses import KDLoss, Loss, STKDLoss
from stkd_lightning.teacher import FrozenTeacher
from tests.conftest import Command
from tests.tasks.squares import CLASSES, SquaresDataModule, SquaresNetwork

ROOT = Path(__file__).parents[2]
NETWORK = "tests.tasks.squares.SquaresNetwork"
OPTIONS = [
    "--config-dir", "conf", "dataset=squares", "student=custom", f"student._target_={NETWORK}", "+student.width=4",
    "teacher=custom", f"teacher.network._target_={NETWORK}", "+teacher.network.width=16", "logger=csv",
    "trainer.max_epochs=3", "teacher.max_epochs=6", "optimizer.lr=0.2", "compile=false", "precision=32-true",
    "trainer=cpu",
]  # fmt: skip


def data(folder: Path, **options: Any) -> SquaresDataModule:
    return SquaresDataModule(folder / "data", cache_dir=folder / "cache", **options)


def fitted(
    folder: Path, source: SquaresDataModule, loss: Loss, epochs: int, checkpoint: Path | None = None, **options: Any
) -> tuple[DistillationModule, L.Trainer]:
    source.prepare_data()
    torch.manual_seed(0)
    teacher, student = FrozenTeacher(SquaresNetwork(16)), SquaresNetwork(4)
    module = DistillationModule(
        student, loss, teacher, task=source.task, schedule=lambda progress: 1.0, example=torch.zeros(1, 3, 16, 24),
        **options,
    )  # fmt: skip
    kept = Checkpoints(folder, select=True, score=source.task.score)
    trainer = L.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, callbacks=[kept, Seeding(0)], enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, source, ckpt_path=checkpoint)
    return module, trainer


@pytest.mark.parametrize("mixup", [None, Mixup(alpha=1.0)], ids=["unmixed", "mixed"])
def test_images_of_unequal_sides_train_and_are_measured(mixup: Mixup | None, tmp_path: Path) -> None:
    source = data(tmp_path, unequal=True, crop=(12, 16), scale=(0.5, 1.5), colour=0.2, class_weights="balanced")
    _, trainer = fitted(tmp_path / "run", source, STKDLoss(), 2, mixup=mixup)
    metrics = trainer.callback_metrics
    assert 0 < float(metrics["val/miou"]) <= 1
    assert {f"val/iou/{name}" for name in CLASSES} <= set(metrics)
    assert 0 <= float(metrics["val/agreement"]) <= 1


def test_a_resumed_segmentation_is_bit_identical(tmp_path: Path) -> None:
    source = data(tmp_path, crop=(12, 16), scale=(0.5, 1.5), colour=0.2)
    whole, _ = fitted(tmp_path / "whole", source, KDLoss(), 3)
    fitted(tmp_path / "parts", source, KDLoss(), 1)
    resumed, _ = fitted(tmp_path / "parts", source, KDLoss(), 3, tmp_path / "parts" / "last.ckpt")
    for name, value in whole.student.state_dict().items():
        assert torch.equal(resumed.student.state_dict()[name], value), name


@pytest.mark.parametrize("mixup", [None, Mixup(alpha=1.0)], ids=["unmixed", "mixed"])
def test_a_traced_segmentation_equals_its_parts(
    mixup: Mixup | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = data(tmp_path, crop=(12, 16), scale=(0.5, 1.5), colour=0.2, class_weights=(1, 2, 2))
    parts, _ = fitted(tmp_path / "parts", source, KDLoss(), 2, mixup=mixup)
    monkeypatch.setattr(epoch_steps, "TRACED_DEVICES", ("cpu",))
    traced, _ = fitted(tmp_path / "traced", source, KDLoss(), 2, mixup=mixup, compile=True)
    assert "does not make one trace" not in capsys.readouterr().out
    for name, value in parts.student.state_dict().items():
        torch.testing.assert_close(traced.student.state_dict()[name], value, atol=1e-4, rtol=1e-4)


def test_the_teachers_logits_of_evaluations_are_not_kept(tmp_path: Path) -> None:
    module, _ = fitted(tmp_path / "run", data(tmp_path), KDLoss(), 1, replay=tmp_path / "replay")
    assert module._teacher_outputs._cached_bytes == 0
    assert {path.name.partition("-")[0] for path in (tmp_path / "replay").iterdir()} == {"epoch"}


def test_evaluation_in_windows_is_that_of_the_whole(tmp_path: Path) -> None:
    """Of a network that sees single pixels."""

    class Pointwise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 1)

        def forward(self, images: Tensor) -> Tensor:
            return self.layer(images)

    torch.manual_seed(0)
    network, found = Pointwise(), []
    for window in (None, (8, 10)):
        source = data(tmp_path, window=window, unequal=True)
        source.prepare_data()
        module = DistillationModule(network, KDLoss(), FrozenTeacher(SquaresNetwork(4)), task=source.task)
        trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
        found.append(trainer.test(module, source.test_dataloader(), verbose=False)[0]["test/miou"])
    assert found[0] == pytest.approx(found[1], abs=1e-6)


def test_a_teachers_score_is_remembered_by_window(tmp_path: Path) -> None:
    node = OmegaConf.create({"min_accuracy": None, "network": {"_target_": "tests.tasks.squares.SquaresNetwork"}})
    teacher = FrozenTeacher(SquaresNetwork(4))
    for options in ({}, {"window": (8, 10)}, {"train_images": 8}, {}):
        source = data(tmp_path, **options)
        source.prepare_data()
        teachers.check_score(teacher, source, node, "here", tmp_path, torch.device("cpu"), refuse=False)
    assert len(list((tmp_path / "accuracy").glob("*.json"))) == 3


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    """Write the data set's configuration beside the runs, and let commands import its modules from there."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    (tmp_path / "conf" / "dataset" / "squares.yaml").write_text(
        "defaults: [_masks]\n_target_: tests.tasks.squares.SquaresDataModule\nunequal: false\n"
    )
    return OPTIONS


def test_commands_train_and_evaluate_segmentation(command: Command, settings: list[str], tmp_path: Path) -> None:
    done = command("train", *settings, "loss=kd", "hydra.run.dir=run", "baseline=true", "dataset.crop=[12,16]",
                   "teacher.dataset={crop:null,scale:[1,1]}", "dataset.scale=[0.5,2]", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "mIoU  selected  pixels  image IoU  agree" in done.stdout
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["score"] == {"name": "miou", "higher": True, "unit": "%"}
    assert summary["data"]["task"] == "segmentation"
    assert {"miou", "image_quality", "quality_variance", "high_precision"} <= set(summary["student"]["test"]["last"])
    measured = command("evaluate", "checkpoint=run/checkpoints/last.ckpt", "trust=true", cwd=tmp_path)
    assert measured.returncode == 0, measured.stderr
    assert f"test/miou: {summary['student']['test']['last']['miou']:.4f}" in measured.stdout


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("teacher.dataset={crops:null}", "option of teacher.dataset 'crops': unknown; did you mean crop"),
        ("teacher.dataset={seed:3}", "teacher.dataset.seed: is that of the trained network; set teacher.seed"),
        ("loss=crd", "CRDLoss: needs a label for each sample, but segmentation has one for each position"),
        ("dataset.crop=[8]", "dataset.crop=[8]: must be height and width in pixels"),
        ("dataset.class_weights=[1,2]", "dataset.class_weights: has 2 weights, but squares has 3 classes"),
        ("dataset.train_images=500", "dataset.train_images=500: there are only 24 training images"),
    ],
)
def test_bad_options_exit_in_one_line(
    option: str, words: str, command: Command, settings: list[str], tmp_path: Path
) -> None:
    done = command("train", *settings, "loss=kd", "hydra.run.dir=run", option, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_two_ranks_train_segmentation_as_one(fresh_command: Command, settings: list[str], tmp_path: Path) -> None:
    """Pixels without class are unequally many on the ranks; the means are those of the global batch."""
    found = []
    for ranks in (1, 2):
        ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"] if ranks == 2 else []
        done = fresh_command("train", *settings, "loss=stkd", *ddp, f"hydra.run.dir=run{ranks}",
                             "dataset.class_weights=[1,2,3]", "dataset.scale=[0.5,2]", cwd=tmp_path)  # fmt: skip
        assert done.returncode == 0, done.stderr
        state = torch.load(tmp_path / f"run{ranks}" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        found.append(state)
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, atol=1e-5, rtol=1e-4)


def test_a_class_that_does_not_occur_has_no_figure() -> None:
    """A summary is JSON, which has no NaN."""
    figures = _without_prefix({"test/miou": 0.5, "test/iou/sky": torch.tensor(torch.nan), "test/iou/road": 1}, "test/")
    assert figures == {"miou": 0.5, "iou/road": 1.0}
