import csv
from pathlib import Path

import lightning as L
import pytest
from torch import nn

from stkd_lightning.callbacks import LogEachEpoch
from stkd_lightning.data import DigitsDataModule
from stkd_lightning.distillation.module import DistillationModule
from stkd_lightning.losses import CrossEntropyLoss
from stkd_lightning.reporting.loggers.metrics_csv import MetricsFile


@pytest.mark.parametrize(("accumulated", "every", "logged"), [(1, 50, [2, 5]), (2, 50, [1, 3]), (1, 2, [1, 3, 5]),
                                                              (1, 3, [2, 5])])  # fmt: skip
def test_short_epochs_log_their_loss(accumulated: int, every: int, logged: list[int], tmp_path: Path) -> None:
    module = DistillationModule(nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), CrossEntropyLoss())
    L.Trainer(
        max_epochs=2, limit_train_batches=3, accumulate_grad_batches=accumulated, log_every_n_steps=every,
        accelerator="cpu", logger=MetricsFile(tmp_path), callbacks=[LogEachEpoch()], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    ).fit(module, DigitsDataModule())  # fmt: skip
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    assert [int(row["step"]) for row in rows] == logged
