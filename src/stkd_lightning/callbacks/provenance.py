"""The provenance in a checkpoint; with it a checkpoint can be evaluated without other files."""

from typing import Any

import lightning as L

from stkd_lightning.inference.provenance import StudentProvenance
from stkd_lightning.models.checkpoint_file import KEY


class Provenance(L.Callback):
    """Write the origin of the student into every checkpoint, under ``"stkd_lightning"``.

    Args:
        origin: of the student that is trained.
    """

    def __init__(self, origin: StudentProvenance) -> None:
        self.origin = origin

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = self.origin.to_plain()
