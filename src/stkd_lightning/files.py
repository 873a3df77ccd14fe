"""Questions to the file system that need no torch."""

from pathlib import Path

from stkd_lightning.errors import InputError

CHECKPOINTS = (".ckpt", ".pt", ".pth", ".tar", ".bin", ".safetensors")


def check_exists(checkpoint: Path) -> None:
    """Refuse a checkpoint that is not there.

    Raises:
        InputError: names those that lie where it should.
    """
    if not checkpoint.is_file():
        near = sorted(p.name for p in checkpoint.parent.glob("*") if p.suffix in CHECKPOINTS)[:5]
        raise InputError(f"checkpoint {checkpoint}: no such file" + (f"; there: {', '.join(near)}" if near else ""))
