"""Folders and keys: the shipped configuration, and the cache between runs."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def cache_root(cache_dir: str | Path | None = None) -> Path:
    """Return ``cache_dir``, else ``$STKD_CACHE``, else ``stkd_lightning`` in the user's cache folder."""
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    if "STKD_CACHE" in os.environ:
        return Path(os.environ["STKD_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "stkd_lightning"


def key_of(content: Any) -> str:
    """Return 16 hexadecimal digits that identify plain, JSON-like content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def conf_dir() -> Path:
    """Return the folder of the shipped configuration: in the package, or next to ``src`` in a checkout."""
    shipped = Path(__file__).parents[1] / "conf"
    return shipped if shipped.is_dir() else Path(__file__).parents[3] / "conf"
