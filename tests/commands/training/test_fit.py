"""The figures of a training are those of its last student, also after an interruption at its end."""

import csv
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

from stkd_lightning import DistillationModule
from stkd_lightning.callbacks import Checkpoints, Seeding, Throughput
from stkd_lightning.commands.training.fit import Fitted, fit_and_test
from stkd_lightning.data import DigitsDataModule
from stkd_lightning.losses import CrossEntropyLoss
from stkd_lightning.models import create_model
from stkd_lightning.reporting.loggers.metrics_csv import MetricsFile
from stkd_lightning.utilities.files import BEST, LAST

BATCHES = 6


class Stop(L.Callback):
    """Ends the process's work, as SIGKILL would, when a stage begins."""

    def __init__(self, stage: TrainerFn | None) -> None:
        self.stage = stage

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == self.stage:
            raise KeyError(self.stage)

    on_test_start = on_validation_start


def train(folder: Path, *, stop: TrainerFn | None = None, **options: Any) -> tuple[Fitted, float, dict[str, str]]:
    """Return the results, the last student's score by itself, and the last validation in the metrics file."""
    torch.manual_seed(0)
    module = DistillationModule(create_model("resnet8", num_classes=10), CrossEntropyLoss())
    data = DigitsDataModule(validation_fraction=0.2)
    kept, last = Checkpoints(folder, select=True), folder / LAST
    trainer = L.Trainer(
        **{"max_epochs": 3, **options}, limit_train_batches=BATCHES, accelerator="cpu", logger=MetricsFile(folder),
        callbacks=[Seeding(1), Throughput(), Stop(stop), kept], enable_progress_bar=False, num_sanity_val_steps=0,
        enable_model_summary=False, default_root_dir=folder, use_distributed_sampler=False,
    )  # fmt: skip
    fitted = fit_and_test(module, data, trainer, last if last.is_file() else None)
    (alone,) = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False).validate(module, data)
    rows = [row for row in csv.DictReader((folder / "metrics.csv").open()) if row["val/accuracy"]]
    return fitted, alone["val/accuracy"], rows[-1]


ENDS = [
    {"check_val_every_n_epoch": 2},
    {"check_val_every_n_epoch": 5},
    {"max_steps": 16},
    {"max_epochs": -1, "max_steps": 8},
    {"val_check_interval": 4},
    {"check_val_every_n_epoch": None, "val_check_interval": 7},
    {},
]


@pytest.mark.parametrize("options", ENDS, ids=lambda options: " ".join(map(str, options.items())))
def test_fit_and_test_validates_the_last_student(options: dict[str, Any], tmp_path: Path) -> None:
    fitted, alone, row = train(tmp_path / "whole", **options)
    assert fitted.validation["accuracy"] == float(row["val/accuracy"]) == alone
    steps = options.get("max_steps", 3 * BATCHES)
    last_epoch = (steps - 1) // BATCHES
    assert (int(row["step"]), int(row["epoch"])) == (steps - 1, last_epoch)
    best = torch.load(tmp_path / "whole" / BEST, weights_only=True)
    assert (best["global_step"] - 1) // BATCHES == fitted.selected_epoch

    for stage in (TrainerFn.VALIDATING, TrainerFn.TESTING):
        if stage == TrainerFn.VALIDATING and not options:
            continue  # this training ends with a validation
        folder = tmp_path / stage
        with pytest.raises(KeyError):
            train(folder, stop=stage, **options)
        if fitted.selected_epoch == last_epoch:
            (folder / BEST).unlink(missing_ok=True)  # killed before it was written
        resumed, _, _ = train(folder, **options)
        assert (resumed.test, resumed.validation) == (fitted.test, fitted.validation)
        assert resumed.selected_epoch == fitted.selected_epoch
        assert (folder / "metrics.csv").read_bytes() == (tmp_path / "whole" / "metrics.csv").read_bytes()
        again = torch.load(folder / BEST, weights_only=True)
        assert all(torch.equal(value, again["state_dict"][name]) for name, value in best["state_dict"].items())
