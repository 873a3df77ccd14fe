"""Weights & Biases without questions: online when logged in and the server answers, otherwise offline."""

import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from lightning.pytorch.loggers import WandbLogger

from stkd_lightning.reporting.lenient_wandb import LenientWandbLogger, server


def logged_in() -> bool:
    """Return whether an API key for the W&B server is in the environment or in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(urlparse(server()).netloc) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def wandb_logger(
    save_dir: str | Path,
    *,
    offline: bool | None = None,
    id: str | None = None,
    resume: str | None = None,
    keeps: bool = False,
    **options: Any,
) -> WandbLogger:
    """Build a W&B logger that ends no run and slows none down.

    Args:
        save_dir: receives the folder ``wandb``.
        offline: ``None``: offline unless logged in and the server answers; ``False``: the server is not asked before.
            ``WANDB_MODE`` in the environment wins.
        id: of the run; that of an earlier one continues it.
        resume: ``allow`` (``None``), ``must`` or ``never``: whether there may be a run of that ``id``.
        keeps: the package's source, when the run starts, and the student, when it ends.
        options: further arguments of ``WandbLogger`` and ``wandb.init``, for example ``project``, ``group``, ``tags``,
            and ``settings``, a dict of wandb's own.
    """
    mode = os.environ.get("WANDB_MODE")
    if mode is None and (offline or (offline is None and not logged_in())):
        mode = "offline"
    os.environ.setdefault("WANDB_SILENT", "true")
    # Its reports to its makers hold the words of exceptions, and a server that hangs keeps them waiting at exit.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    options |= {} if mode is None else {"mode": "offline" if mode == "dryrun" else mode}
    options |= {} if resume is None else {"resume": resume}
    return LenientWandbLogger(asks=offline is not False, keeps=keeps, save_dir=save_dir, id=id, **options)
