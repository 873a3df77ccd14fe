"""A sweep that is killed leaves no process that trains on; the jobs save a checkpoint first."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from stkd_lightning.models.checkpoint_file import intact
from stkd_lightning.utilities import orphan

SWEEP = ["-m", "experiment=quickstart", "loss=ce", "logger=csv", "baseline=false", "trainer.max_epochs=5000",
         "checkpoint_minutes=null", "hydra.sweep.dir=sweep", "cache_dir=cache", "seed=0,1"]  # fmt: skip
LAUNCHERS = {
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "ranks": ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"],
}


@pytest.mark.parametrize("launcher", ["joblib", pytest.param("ranks", marks=pytest.mark.slow)])
def test_jobs_end_with_a_killed_sweep(launcher: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stkd_lightning.train", *SWEEP, *LAUNCHERS[launcher]]
    sweep = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    jobs = [tmp_path / "sweep" / job for job in (("0", "1") if launcher == "joblib" else ("0",))]
    while not all((job / "checkpoints" / "before_last.ckpt").exists() for job in jobs):
        assert sweep.poll() is None
        time.sleep(0.05)
    killed = time.time()
    sweep.kill()
    sweep.communicate(timeout=60)  # it returns when no process has its stderr any more
    assert time.time() - killed < orphan.SAVE / 2  # not only when the patience ended
    for job in jobs:
        last = job / "checkpoints" / "last.ckpt"
        assert intact(last)
        assert last.stat().st_mtime > killed
        assert not (job / "summary.json").exists()


CHILD = """
import os, sys, time
from stkd_lightning.utilities import orphan, signals
orphan.POLL, orphan.RANK = 0.05, 0.1
{before}
print(os.getpid(), flush=True)
try:
    time.sleep(60)
except signals.Interrupted:
    print("asked", flush=True)
"""
WAYS = {
    "child": ("signals.listen(); orphan.watch_starter(); assert orphan.STARTER not in os.environ", "asked"),
    "rank": ("orphan.watch_starter()", ""),
    "worker": ("block = orphan.ending_with(os.getppid()); block.__enter__()", ""),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_process_ends_with_its_parent(way: str) -> None:
    before, words = WAYS[way]
    script = (
        "import os, subprocess, sys, time\nfrom stkd_lightning.utilities.orphan import STARTER\n"
        f"os.environ |= {{'child': {{STARTER: str(os.getpid())}}, 'rank': {{'LOCAL_RANK': '1'}}}}.get({way!r}, {{}})\n"
        f"subprocess.Popen([sys.executable, '-c', {CHILD.format(before=before)!r}])\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert int(parent.stdout.readline()) > 0
    parent.send_signal(signal.SIGKILL)
    assert parent.communicate(timeout=20)[0].strip() == words


def test_ending_with_leaves_a_process_of_another_parent() -> None:
    parent = 1 << 30
    with orphan.ending_with(parent):
        assert f"parent-{parent}" not in [thread.name for thread in threading.enumerate()]
