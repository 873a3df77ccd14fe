"""Weights & Biases without questions: online when logged in, otherwise offline."""

import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from lightning.pytorch.loggers import WandbLogger


def logged_in() -> bool:
    """Return whether an API key for the W&B server is in the environment or in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (FileNotFoundError, netrc.NetrcParseError):
        return False


def wandb_logger(save_dir: str | Path, *, offline: bool | None = None, **options: Any) -> WandbLogger:
    """Build Lightning's W&B logger.

    Args:
        save_dir: receives the folder ``wandb``.
        offline: ``None``: offline unless logged in. ``WANDB_MODE`` in the environment wins over both.
        options: further arguments of ``WandbLogger``, for example ``project``, ``group``, ``tags``.
    """
    mode = os.environ.get("WANDB_MODE")
    if mode is not None:
        offline = mode in ("offline", "dryrun")
        options |= {"mode": "disabled"} if mode == "disabled" else {}
    elif offline is None:
        offline = not logged_in()
    # The folder must exist, else wandb writes to the system's temporary folder with a warning.
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_SILENT", "true")
    logger = WandbLogger(save_dir=save_dir, offline=offline, **options)
    # Lightning passes an option that wandb has retired and warns of.
    logger._wandb_init.pop("anonymous", None)
    return logger
