"""A progress bar with the number of images per second."""

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import ProcessingSpeedColumn

from stkd_lightning.callbacks.throughput import Throughput
from stkd_lightning.distillation.module import DistillationModule

INTERVAL = 1.0  # seconds; Lightning draws its bar at each step, which takes longer than a small network's step


class ProgressBar(RichProgressBar):
    """Lightning's rich bar with images per second, loss and validation score, drawn once a second.

    Args:
        refresh_rate: checks of the drawing thread for changes, per second.
        options: those of ``RichProgressBar``.
    """

    def __init__(self, refresh_rate: int = 4, **options: Any) -> None:
        super().__init__(refresh_rate, **options)
        self._drawn = 0.0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if now - self._drawn > INTERVAL or trainer.is_last_batch:
            self._drawn = now
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def configure_columns(self, trainer: L.Trainer) -> list[Any]:
        """Return Lightning's columns without batches per second."""
        return [c for c in super().configure_columns(trainer) if not isinstance(c, ProcessingSpeedColumn)]

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return the values beside the bar."""
        shown: dict[str, int | str | float | dict[str, float]] = {}
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Throughput):
                shown["images/s"] = f"{callback.images_per_second:,.0f}"
                if callback.rows != callback.images:
                    shown["rows/s"] = f"{callback.rows_per_second:,.0f}"
        score = pl_module.task.score.name if isinstance(pl_module, DistillationModule) else "accuracy"
        for name in ("train/loss", f"val/{score}"):
            if name in trainer.callback_metrics:
                shown[name.partition("/")[2]] = f"{float(trainer.callback_metrics[name]):.3f}"
        return shown
