"""The lock of a run's folder."""

import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from stkd_lightning.callbacks import checkpoint_folder
from stkd_lightning.callbacks.checkpoint_folder import claimed
from stkd_lightning.utilities.errors import InputError

HOLD = """
import sys, time
from pathlib import Path
from stkd_lightning.callbacks.checkpoint_folder import claimed
with claimed(Path(sys.argv[1])):
    print("claimed", flush=True)
    time.sleep(1000)
"""


def claim(folder: Path) -> None:
    with claimed(folder):
        pass


def test_claimed_folder_is_refused_to_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "claimed\n"
    monkeypatch.setattr(checkpoint_folder, "PATIENCE", 0.2)
    with pytest.raises(InputError, match=r"output folder .*run: another process is at work there; let it end"):
        claim(tmp_path / "run")
    process.kill()
    process.communicate(timeout=60)
    claim(tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


def test_claimed_ends_with_an_error_in_the_run(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), claimed(tmp_path / "run"):
            raise ZeroDivisionError


@pytest.mark.parametrize("error", [NotImplementedError(), OSError(95, "not supported")])
def test_claimed_needs_no_file_system_with_locks(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def acquire(self: FileLock, timeout: float, poll_interval: float) -> None:
        raise error

    monkeypatch.setattr(FileLock, "acquire", acquire)
    claim(tmp_path / "run")  # raises nothing
    assert (tmp_path / "run").is_dir()
