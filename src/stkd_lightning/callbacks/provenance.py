"""The provenance in a checkpoint; with it a checkpoint can be evaluated without other files."""

from typing import Any

import lightning as L

from stkd_lightning.models.checkpoint_file import KEY


class Provenance(L.Callback):
    """Writes plain facts into every checkpoint under ``"stkd_lightning"``; ``weights_only=True`` reads them.

    Args:
        facts: plain containers: the resolved configuration, and the data's classes and normalization.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = self.facts
