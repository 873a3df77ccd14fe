"""What tests share: one cache for the test run, real data where they are unpacked, commands run as a user runs them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests import segmentation as segmentation_runs
from tests import tagging as tagging_runs
from tests.fork_server import ForkServer

# One thread for each test worker: several busy OpenMP pools on few cores slow each other down.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WANDB_MODE"] = "offline"

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of prepared data and teachers that all workers share, empty when the test run begins."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder.mkdir(exist_ok=True)
    os.environ["STKD_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def segmentation(cache: Path) -> Path:
    """A folder with a run of a segmentation student, ``run``, and its data, ``data``; all workers share it."""
    folder = cache.parent / "segmentation"
    with FileLock(f"{folder}.lock"):
        if not (folder / "run" / "summary.json").is_file():
            segmentation_runs.train(folder)
    return folder


@pytest.fixture(scope="session")
def tagging(cache: Path) -> Path:
    """A folder with a run of a tagging student, ``run``, and its data, ``data``; all workers share it."""
    folder = cache.parent / "tagging"
    with FileLock(f"{folder}.lock"):
        if not (folder / "run" / "summary.json").is_file():
            folder.mkdir(exist_ok=True)
            tagging_runs.train(folder)
    return folder


@pytest.fixture(autouse=True)
def _random_state() -> None:
    """The same random numbers whichever tests ran before."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Restore the environment after each test: a command that runs in this process changes what later ones read."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the official data sets, named by ``STKD_DATA``."""
    folder = Path(os.environ.get("STKD_DATA", "data"))
    if not (folder / "cifar-100-python").is_dir():
        pytest.skip("real data are not here; STKD_DATA names their folder")
    return folder.absolute()


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """A server that forks the commands of a worker's tests."""
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture
def fresh_command(tmp_path: Path) -> Command:
    """Run ``python -m stkd_lightning.NAME ARGUMENTS`` in a fresh interpreter; give its exit code and output.

    For tests of start-up, several ranks, and what is read at import.
    """

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


@pytest.fixture
def command(tmp_path: Path, request: pytest.FixtureRequest, fresh_command: Command) -> Command:
    """Run a command as ``fresh_command`` does, in a process forked from a server where its environment allows it."""
    if sys.platform != "linux":
        return fresh_command
    server: ForkServer = request.getfixturevalue("fork_server")

    def run(
        name: str, *arguments: str, cwd: Path = tmp_path, timeout: float = 300, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        whole = {**os.environ, **environment}
        if not server.serves(whole):
            return fresh_command(name, *arguments, cwd=cwd, timeout=timeout, **environment)
        return server.run(f"stkd_lightning.{name}", arguments, cwd=cwd, environment=whole, timeout=timeout)

    return run
