"""What networks draw while they train, such as dropout, as a function of the place in the run."""

from typing import Any

import lightning as L
import torch

from stkd_lightning.utilities.distributed import world
from stkd_lightning.utilities.random import generator


class Seeding(L.Callback):
    """Seeds torch's global generators before each batch by (seed, rank, epoch, batch), so that no state is to be kept.

    Args:
        seed: >= 0.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the generator of the CPU and that of the device."""
        place = world()[0], trainer.current_epoch, batch_idx
        seed = int(generator(self.seed, "networks", *place).integers(2**62))
        torch.default_generator.manual_seed(seed)
        if pl_module.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        elif pl_module.device.type == "mps":
            torch.mps.manual_seed(seed)
