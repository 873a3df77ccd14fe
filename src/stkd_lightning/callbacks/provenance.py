"""Where a student comes from, in its checkpoints, which are evaluated with nothing beside them."""

from typing import Any

import lightning as L

from stkd_lightning.inference.provenance import StudentProvenance
from stkd_lightning.models.checkpoint_file import KEY


class Provenance(L.Callback):
    """Write where a student comes from into every checkpoint, under ``"stkd_lightning"``.

    Args:
        origin: of the student that is trained.
    """

    def __init__(self, origin: StudentProvenance) -> None:
        self.origin = origin

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = self.origin.to_plain()
