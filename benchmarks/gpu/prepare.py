"""Make the packages importable on a GPU machine that nothing can be fetched to; needs only the standard library."""

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
STARTED = "STKD_QUEUE_STARTED"  # environment variable: monotonic time at which the command began


def started() -> float:
    """Return the monotonic time at which the command began, before packages were installed."""
    return float(os.environ.setdefault(STARTED, str(time.monotonic())))


def prepare(carried: Path) -> None:
    """Install the carried wheels beside them if they are missing, and start the command again with them.

    Args:
        carried: folder to carry, with ``1/wheels`` or ``2/wheels``.
    """
    started()
    os.environ.setdefault("WANDB_MODE", "offline")
    site = carried / "site"
    wheels = sorted({wheel.name: wheel for wheel in carried.glob("[12]/wheels/*.whl")}.values())
    if wheels and find_spec("hydra") is None and not site.is_dir():
        flags = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--target", str(site)]
        subprocess.run([sys.executable, "-m", "pip", "install", *flags, *map(str, wheels)], check=True)
    needed = [folder for folder, package in ((ROOT / "src", "stkd_lightning"), (site, "hydra")) if not _there(package)]
    if absent := [folder for folder in needed if not folder.is_dir()]:
        sys.exit(f"error: {absent[0]}: missing; carry {carried.name}/1, which has the wheels")
    if needed:
        path = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([*map(str, needed), *([path] if path else [])])
        os.execv(sys.executable, [sys.executable, *sys.argv])


def _there(package: str) -> bool:
    return find_spec(package) is not None
