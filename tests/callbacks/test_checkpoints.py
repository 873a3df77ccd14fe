"""An interrupted training goes on as if it had not been: weights, selection, and what is logged, to the last bit."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from signal import SIGTERM
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor, nn

from stkd_lightning import DistillationModule, Mixup
from stkd_lightning.callbacks import EMA, Checkpoints, LogEachEpoch, Seeding
from stkd_lightning.callbacks.checkpoint_folder import newest_whole
from stkd_lightning.data import DigitsDataModule
from stkd_lightning.losses import CRDLoss, CrossEntropyLoss, FitNetLoss, STKDLoss, WeightedSum
from stkd_lightning.models import create_model
from stkd_lightning.reporting.loggers.metrics_csv import MetricsFile
from stkd_lightning.teacher import FrozenTeacher
from stkd_lightning.utilities import signals
from stkd_lightning.utilities.errors import RunError
from stkd_lightning.utilities.files import BEST, LAST

BATCHES, EPOCHS = 6, 3


class Ask(L.Callback):
    """Asks the process to end as a signal would, when so many batches have been trained."""

    def __init__(self, after: int) -> None:
        self.left = after

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        self.left -= 1
        if self.left == 0:
            signals._State.received = SIGTERM


def student() -> nn.Module:
    """A network that draws, and remembers, while it trains."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(32, 10),
    )  # fmt: skip


def distillation(loss: Callable[[], nn.Module]) -> DistillationModule:
    torch.manual_seed(0)
    made = loss()
    mixup = Mixup() if getattr(made, "mixable", True) else None
    network = student() if isinstance(made, STKDLoss | CrossEntropyLoss) else create_model("resnet8", num_classes=10)
    return DistillationModule(network, made, FrozenTeacher(create_model("resnet8", num_classes=10)), mixup)


def fit(
    folder: Path,
    *,
    loss: Callable[[], nn.Module] = STKDLoss,
    after: int = 0,
    ema: bool = False,
    patient: bool = True,
    checkpoint: Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    signals._State.received = None
    data_options = {k: options.pop(k) for k in ("resident", "workers", "seed") if k in options}
    module, data = distillation(loss), DigitsDataModule(**data_options)
    kept, metrics = Checkpoints(folder / "checkpoints", select=True), MetricsFile(folder)
    early = [EarlyStopping("val/accuracy", mode="max", patience=1)] if not patient else []
    callbacks = [
        Seeding(5),
        LogEachEpoch(),
        *([EMA(0.9)] if ema else []),
        *([Ask(after)] if after else []),
        *early,
        kept,
    ]
    settings: dict[str, Any] = {"max_epochs": EPOCHS, "limit_train_batches": BATCHES, "log_every_n_steps": 4}
    trainer = L.Trainer(
        **{**settings, **options}, accelerator="cpu", logger=metrics, enable_progress_bar=False, callbacks=callbacks,
        enable_model_summary=False, default_root_dir=folder, num_sanity_val_steps=0, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=checkpoint)
    selected = torch.load(folder / "checkpoints" / BEST, weights_only=True)["state_dict"]
    return {
        "last": {k: v.clone() for k, v in module.state_dict().items()},
        "selected": selected,
        "saved": torch.load(folder / "checkpoints" / LAST, weights_only=True)["state_dict"],
        "metrics": (folder / "metrics.csv").read_text(),
        "best": (kept.best_epoch, kept.best_step, kept.validation),
        "step": trainer.global_step,
    }


def interrupted(folder: Path, after: int, **options: Any) -> dict[str, Any]:
    with pytest.raises(signals.Interrupted):
        fit(folder, after=after, **options)
    return fit(folder, checkpoint=newest_whole(folder / "checkpoints"), **options)


def assert_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    for name, value in one.items():
        if isinstance(value, dict) and all(isinstance(v, Tensor) for v in value.values()):
            assert value.keys() == other[name].keys()
            for key, tensor in value.items():
                assert torch.equal(tensor, other[name][key]), (name, key)
        else:
            assert other[name] == value, name


def crd() -> nn.Module:
    return WeightedSum({"ce": CrossEntropyLoss(), "hint": FitNetLoss(), "crd": CRDLoss(num_samples=1500, width=8)})


@pytest.mark.parametrize("after", range(1, BATCHES * EPOCHS))
def test_at_any_step(after: int, tmp_path: Path) -> None:
    assert_equal(fit(tmp_path / "whole"), interrupted(tmp_path / "parts", after))


@pytest.mark.parametrize(
    "options",
    [
        {"loss": crd},
        {"ema": True},
        {"patient": False, "max_epochs": 4},
        {"log_every_n_steps": 1},
        {"max_epochs": -1, "max_steps": 16},
        {"max_steps": 16},
        {"accumulate_grad_batches": 4},
        {"accumulate_grad_batches": 2, "max_steps": 8},
        {"val_check_interval": 2},
        {"check_val_every_n_epoch": 2, "max_epochs": 4},
        {"limit_val_batches": 1, "limit_train_batches": 0.34},
        {"resident": False, "workers": 2},
        {"precision": "bf16-mixed"},
        {"gradient_clip_val": 0.5},
    ],
    ids=lambda options: " ".join(map(str, options)),
)
def test_with_any_settings(options: dict[str, Any], tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", **options)
    for after in (3, 5, 6, 7, 11, 12):
        assert_equal(whole, interrupted(tmp_path / str(after), after, **options))


class Signal(L.Callback):
    """Sends this process a signal in the middle of a batch."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        if trainer.global_step == self.at:
            os.kill(os.getpid(), SIGTERM)


def test_signal_ends_a_training_without_the_command_line_well(tmp_path: Path) -> None:
    """Without the command line; the next training in the same process is not ended by it."""
    module, data = distillation(STKDLoss), DigitsDataModule()
    kept = Checkpoints(tmp_path, select=True)
    options: dict[str, Any] = {"max_epochs": 2, "limit_train_batches": BATCHES, "accelerator": "cpu", "logger": False,
                               "enable_progress_bar": False, "default_root_dir": tmp_path}  # fmt: skip
    before = signal.getsignal(SIGTERM)
    with pytest.raises(signals.Interrupted, match="SIGTERM"):
        L.Trainer(**options, callbacks=[Signal(3), kept]).fit(module, data)
    assert signal.getsignal(SIGTERM) is before
    assert torch.load(tmp_path / LAST, weights_only=True)["global_step"] == 4
    again = L.Trainer(**options, callbacks=[Checkpoints(tmp_path, select=True)])
    again.fit(distillation(STKDLoss), data, ckpt_path=tmp_path / LAST)
    assert again.global_step == 2 * BATCHES


def test_a_state_that_could_not_be_read_again_is_told_at_once(tmp_path: Path) -> None:
    class Odd(L.Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"value": np.float64(0.5)}

    trainer = L.Trainer(
        max_epochs=2, limit_train_batches=2, accelerator="cpu", logger=False, enable_progress_bar=False,
        default_root_dir=tmp_path, callbacks=[Odd(), Checkpoints(tmp_path, select=True)],
    )  # fmt: skip
    with pytest.raises(RunError, match="could not be read again: a callback's, optimizer's or schedule's state holds"):
        trainer.fit(distillation(STKDLoss), DigitsDataModule())
    assert trainer.global_step == 2
    assert not list(tmp_path.glob("*.ckpt"))


def test_others_checkpoints_are_left_as_they_are(tmp_path: Path) -> None:
    own = ModelCheckpoint(tmp_path / "own", "{step}", every_n_train_steps=4, save_top_k=-1)
    trainer = L.Trainer(
        max_epochs=1, limit_train_batches=BATCHES, accelerator="cpu", logger=False, enable_progress_bar=False,
        default_root_dir=tmp_path, callbacks=[own, Checkpoints(tmp_path, select=True)],
    )  # fmt: skip
    trainer.fit(distillation(STKDLoss), DigitsDataModule())
    loops = torch.load(tmp_path / "own" / "step=4.ckpt", weights_only=True)["loops"]["fit_loop"]
    assert loops["epoch_loop.batch_progress"]["current"]["ready"] == 4


def test_selected_student_is_restored_if_it_was_not_written(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole")
    assert whole["best"][0] == 0
    with pytest.raises(signals.Interrupted):
        fit(tmp_path / "parts", after=BATCHES)
    (tmp_path / "parts" / "checkpoints" / BEST).unlink()
    assert_equal(whole, fit(tmp_path / "parts", checkpoint=newest_whole(tmp_path / "parts" / "checkpoints")))
