"""Keep the first classes of the images of a test."""

from collections.abc import Mapping
from typing import Any

import lightning as L

from stkd_lightning.reporting.classified import Classified
from stkd_lightning.tasks.types import Batch


class FirstClasses(L.Callback):
    """Keeps the first classes of the images of the last test, whose batches have indices."""

    def __init__(self) -> None:
        self._parts: list[Classified] = []

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Drop those of an earlier test."""
        self._parts = []

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep those of a batch; outputs are the logits of ``EvaluatedModule.test_step``."""
        samples, logits = Batch(*batch), outputs
        assert isinstance(logits, Mapping)
        assert samples.indices is not None
        self._parts.append(Classified.of(samples.indices, samples.labels, logits["student"], logits.get("teacher")))

    def images(self) -> Classified:
        """Return the images of the last test, of all ranks; all ranks call it."""
        return Classified.joined(self._parts)
