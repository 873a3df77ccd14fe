"""A progress bar that says how fast images go by."""

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar

from stkd_lightning.callbacks.throughput import Throughput


class ProgressBar(RichProgressBar):
    """Lightning's rich bar with images per second, loss and validation accuracy."""

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return what is shown beside the bar."""
        shown: dict[str, int | str | float | dict[str, float]] = {}
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Throughput):
                shown["images/s"] = f"{callback.images_per_second:,.0f}"
        for name in ("train/loss", "val/accuracy"):
            if name in trainer.callback_metrics:
                shown[name] = f"{float(trainer.callback_metrics[name]):.3f}"
        return shown
