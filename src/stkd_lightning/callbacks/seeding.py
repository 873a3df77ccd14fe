"""Random draws of networks in training, such as dropout, as a function of the position in the run."""

from typing import Any

import lightning as L
import torch

from stkd_lightning.utilities.distributed import world
from stkd_lightning.utilities.random import generator


class Seeding(L.Callback):
    """Seeds torch's global generators before each batch by (seed, rank, epoch, batch); a resume needs no random state.

    Args:
        seed: >= 0.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the generators of the CPU and of the device."""
        position = world()[0], trainer.current_epoch, batch_idx
        seed = int(generator(self.seed, "networks", *position).integers(2**62))
        torch.default_generator.manual_seed(seed)
        if pl_module.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        elif pl_module.device.type == "mps":
            torch.mps.manual_seed(seed)
