"""Trainings with all ways to mix: resumed, replayed, with look-ahead, and in the units that people read."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from stkd_lightning import CutMix, DistillationModule, Mixup, MixupOrCutMix, StrongView, UncertainMixup
from stkd_lightning.callbacks import Seeding, Throughput
from stkd_lightning.data import DigitsDataModule
from stkd_lightning.distillation.mixing import Mixing
from stkd_lightning.losses import STKDLoss
from stkd_lightning.models import create_model
from stkd_lightning.teacher import FrozenTeacher

WAYS: dict[str, Mixing] = {
    "keep, two passes": Mixup(1.0, keep=True, forwards=2, fraction=0.5),
    "another class": Mixup(1.0, partner="other_class", dominant=True),
    "cutmix": CutMix(per_sample=True, keep=True),
    "mixup or cutmix": MixupOrCutMix(1.0),
    "strong view": StrongView(mean=(0.5,) * 3, std=(0.3,) * 3),
    "uncertain student": UncertainMixup(),
    "uncertain teacher": UncertainMixup(score="teacher"),
}


class Stop(L.Callback):
    """Ends a run after its first epoch, as if it had been killed."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop = True


def fitted(folder: Path, way: Mixing, checkpoint: Path | None = None, **options: Any) -> tuple[L.Trainer, Any]:
    torch.manual_seed(0)
    student, teacher = create_model("resnet8", num_classes=10), create_model("resnet14", num_classes=10)
    module = DistillationModule(
        student, STKDLoss(mixed_weight=1.0), FrozenTeacher(teacher), way,
        **{k: v for k, v in options.items() if k in ("replay", "look_ahead")},
    )  # fmt: skip
    trainer = L.Trainer(
        max_epochs=2, limit_train_batches=6, limit_val_batches=1, accelerator="cpu", logger=False,
        callbacks=[Seeding(0), Throughput(), *options.get("callbacks", [])], enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=folder, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, DigitsDataModule(batch_size=32), ckpt_path=checkpoint)
    return trainer, {name: value.clone() for name, value in module.state_dict().items()}


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("name", WAYS)
def test_a_resumed_run_is_bit_identical(name: str, tmp_path: Path) -> None:
    _, whole = fitted(tmp_path, WAYS[name])
    _, begun = fitted(tmp_path / "begun", WAYS[name], callbacks=[Stop()])
    (checkpoint,) = (tmp_path / "begun").rglob("*.ckpt")
    _, resumed = fitted(tmp_path / "rest", WAYS[name], checkpoint)
    assert_equal(whole, resumed)
    assert not all(torch.equal(value, begun[key]) for key, value in whole.items())


@pytest.mark.parametrize("name", [name for name in WAYS if name != "uncertain student"])
def test_replay_and_look_ahead_change_nothing(name: str, tmp_path: Path) -> None:
    _, plain = fitted(tmp_path, WAYS[name])
    for _ in range(2):
        _, replayed = fitted(tmp_path, WAYS[name], replay=tmp_path / "replay")
        assert_equal(plain, replayed)
    assert (tmp_path / "replay" / "epoch-0-of-6.0").stat().st_size == 6 * WAYS[name].rows(32) * 10 * 4
    _, ahead = fitted(tmp_path, WAYS[name], look_ahead=3)
    for key, value in plain.items():
        torch.testing.assert_close(value, ahead[key], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("way", "rows"), [(Mixup(), 32), (Mixup(keep=True), 64), (UncertainMixup(), 24)])
def test_images_are_counted_once_and_rows_as_they_are(way: Mixing, rows: int, tmp_path: Path) -> None:
    trainer, _ = fitted(tmp_path, way)
    (counted,) = (c for c in trainer.callbacks if isinstance(c, Throughput))
    assert trainer.global_step == 12
    assert (counted.images, counted.rows) == (12 * 32, 12 * rows)
    assert counted.rows_per_second / counted.images_per_second == pytest.approx(rows / 32)
