"""One of two ranks dies: both end within seconds, its own error comes first, and the other says why it stopped."""

import time
from pathlib import Path

import pytest

from tests.conftest import Command

RUN = ["experiment=quickstart", "loss=ce", "logger=csv", "baseline=false", "cache_dir=cache", "hydra.run.dir=run",
       "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_epochs=1"]  # fmt: skip

FATE = """
import os
import signal
import time

import lightning as L

class Fate(L.Callback):
    def __init__(self, rank, how, other):
        self.rank, self.how, self.other = rank, how, other
        if how == "asked" and os.environ.get("LOCAL_RANK") == str(rank):  # rank 0 waits for it in its first step
            open("died", "w").close()
            os.kill(os.getpid(), signal.SIGTERM)

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == 3 and trainer.global_rank != self.rank and self.other == "hangs":
            time.sleep(600)
        if batch_idx == 3 and trainer.global_rank == self.rank:
            open("died", "w").close()
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ArithmeticError("a loss that cannot")
"""


@pytest.mark.parametrize(
    ("rank", "how", "other", "last"),
    [
        (1, "raises", "computes", "error: rank 0: stopped, because rank 1 ended with exit code 1"),
        (1, "killed", "computes", "error: rank 0: stopped, because rank 1 was ended by SIGKILL"),
        (1, "killed", "hangs", "error: rank 0: stopped, because rank 1 was ended by SIGKILL"),
        (0, "killed", "hangs", "error: rank 1: stopped, because the process that started it ended"),
        (1, "asked", "computes", "interrupted by SIGTERM"),
        (0, "raises", "hangs", "[rank0]: ArithmeticError: a loss that cannot"),
    ],
)
def test_all_ranks_end(rank: int, how: str, other: str, last: str, fresh_command: Command, tmp_path: Path) -> None:
    (tmp_path / "own_callback.py").write_text(FATE)
    fate = ["+callbacks.fate._target_=own_callback.Fate", f"+callbacks.fate.rank={rank}", f"+callbacks.fate.how={how}"]
    done = fresh_command("train", *RUN, *fate, f"+callbacks.fate.other={other}")
    # It returns when no process has its stderr any more: none is left behind.
    assert time.time() - (tmp_path / "died").stat().st_mtime < 20
    codes = {"asked": 143, "raises": 1, "killed": 1 if rank == 1 else -9}
    assert done.returncode == codes[how], done.stderr
    lines = done.stderr.strip().splitlines()
    assert lines[-1].startswith(last), done.stderr
    if how == "raises":
        assert done.stderr.count("Traceback") == 1
        assert lines[0].startswith(f"[rank{rank}]: Traceback")
        assert f"[rank{rank}]: ArithmeticError: a loss that cannot" in lines
    else:
        assert len(lines) == 1
