"""What tests share: a cache of their own, real data where they are unpacked, commands run as a user runs them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# One thread for each test worker: several busy OpenMP pools on few cores slow each other down.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WANDB_MODE"] = "offline"

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache shared by the tests of a worker, and by nothing else."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["STKD_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the official data sets, named by ``STKD_DATA``."""
    folder = Path(os.environ.get("STKD_DATA", "data"))
    if not (folder / "cifar-100-python").is_dir():
        pytest.skip("real data are not here; STKD_DATA names their folder")
    return folder.absolute()


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run ``python -m stkd_lightning.NAME ARGUMENTS`` in an empty folder; give its exit code and output."""

    def run(
        name: str, *arguments: str, cwd: Path = tmp_path, timeout: float = 300, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", f"stkd_lightning.{name}", *arguments],
            cwd=cwd,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run
