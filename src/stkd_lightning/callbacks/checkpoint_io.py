"""Lightning's reading and writing of checkpoints: atomic, verified, and without running code in them."""

from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO

from stkd_lightning.models.checkpoint_file import write_sealed
from stkd_lightning.models.weights import read_checkpoint


class SealedCheckpointIO(CheckpointIO):
    """Writes checkpoints as ``write_sealed`` does; the first checkpoint is read back."""

    def __init__(self) -> None:
        self._tried = False

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; see ``write_sealed``."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_sealed(checkpoint, path, read_back=not self._tried)
        self._tried = True

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint to CPU memory; see ``read_checkpoint``."""
        return read_checkpoint(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)
