"""Training images per second."""

import time
from typing import Any

import lightning as L

from stkd_lightning.data.batches import ResidentBatch
from stkd_lightning.distillation.module import DistillationModule


class Throughput(L.Callback):
    """Counts training images and their time, without the time of validation and checkpoints.

    Attributes:
        images: number of training images, over all ranks.
        rows: number of the inputs that the student saw for them, clean and virtual ones.
        seconds: training time: from the start of each epoch's first batch to the end of its last batch.
    """

    def __init__(self) -> None:
        self.images = self.rows = 0
        self.seconds = 0.0
        self._since = 0.0

    @property
    def images_per_second(self) -> float:
        """Mean over the run so far; 0 before the first batch."""
        return self.images / self.seconds if self.seconds else 0.0

    @property
    def rows_per_second(self) -> float:
        """Mean over the run so far; 0 before the first batch."""
        return self.rows / self.seconds if self.seconds else 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = time.perf_counter()

    def state_dict(self) -> dict[str, float]:
        """Return the counts."""
        return {"images": self.images, "rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts."""
        self.images, self.seconds = state_dict["images"], state_dict["seconds"]
        self.rows = state_dict.get("rows", self.images)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        size = batch.size if isinstance(batch, ResidentBatch) else len(batch[0])
        mixup = pl_module.mixup if isinstance(pl_module, DistillationModule) else None
        self.images += size * trainer.world_size
        self.rows += (mixup.rows(size) if mixup else size) * trainer.world_size
        self.seconds += now - self._since
        self._since = now

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = time.perf_counter()
