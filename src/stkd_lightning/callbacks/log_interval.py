"""Log the training loss at least once in each epoch."""

import math

import lightning as L


class LogEachEpoch(L.Callback):
    """Lowers ``trainer.log_every_n_steps`` to the optimizer steps of an epoch, where epochs are shorter.

    Otherwise a run of short epochs would log its training loss rarely, or never.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lower the interval."""
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning outside the class
        steps = trainer.num_training_batches / trainer.accumulate_grad_batches
        if steps < every:
            trainer.log_every_n_steps = max(1, math.ceil(steps))  # type: ignore[attr-defined]
