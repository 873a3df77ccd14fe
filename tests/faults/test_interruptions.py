"""Runs that are killed, told to end, or run out of disk, as a user starts them and goes on with them."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import soak

from stkd_lightning.models.checkpoint_file import intact
from tests.conftest import Command

RUN = ["experiment=quickstart", "teacher=resnet14", "teacher.max_epochs=1", "teacher.min_accuracy=0", "logger=csv",
       "trainer.max_epochs=10", "baseline=false", "hydra.run.dir=run"]  # fmt: skip


def started(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start a run, and return when it has saved its student for the second time."""
    command = [sys.executable, "-m", "stkd_lightning.train", *RUN, *arguments]
    run = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (folder / "run" / "checkpoints" / "before_last.ckpt").exists():
        assert run.poll() is None, run.communicate()
        time.sleep(0.01)
    return run


SWALLOWS = """
import os, signal, sys
from stkd_lightning.commands import train
from stkd_lightning.commands.cli import command

def job(config):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except BaseException:
        pass
    return config.student.nothing

train.train = job
sys.argv[1:] = ["dataset=digits", "logger=csv", "hydra.run.dir=run"]
command("train", "stkd_lightning.commands.train:train")
"""


def test_error_after_a_swallowed_signal_is_the_interruption(tmp_path: Path) -> None:
    """A signal may come in the middle of a library's code, which swallows its exception and fails afterwards."""
    done = subprocess.run([sys.executable, "-c", SWALLOWS], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 143, done.stderr
    assert done.stderr.startswith("interrupted by SIGTERM")
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_runs_killed_at_random_end_as_one_that_is_not(tmp_path: Path) -> None:
    """Each signal in each data path once; benchmarks/soak.py does the same for as long as one likes."""
    script = Path(soak.__file__)
    done = subprocess.run(
        [sys.executable, str(script), "--each", "1", "--output", str(tmp_path / "out.json")],
        cwd=tmp_path, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    trials = json.loads((tmp_path / "out.json").read_text())["trials"]
    assert {(t["path"], t["kind"]) for t in trials} == {(p, k) for p in soak.PATHS for k in ("SIGKILL", "SIGTERM")}
    assert all(t["differences"] == [] for t in trials)


def test_the_way_from_an_interruption_to_the_end(command: Command, tmp_path: Path) -> None:
    """What is said, what is refused, what is done with a damaged checkpoint; with replay and a loss that remembers."""
    settings = ["precision=auto", "loss=crd", "loss.losses.crd.negatives=64", "loss.losses.crd.width=8"]
    whole = command("train", *RUN, *settings, "hydra.run.dir=whole")
    assert whole.returncode == 0, whole.stderr

    run = started(tmp_path, *settings)
    run.send_signal(signal.SIGTERM)
    _, error = run.communicate(timeout=120)
    assert run.returncode == 143
    last = error.strip().splitlines()[-1]
    assert last.startswith("interrupted by SIGTERM after ")
    assert "the last good checkpoint is " in last
    words = last.split("resume with: python -m stkd_lightning.train ")[1].split()
    assert words == [*[word for word in RUN if "run.dir" not in word], *settings, "hydra.run.dir=run", "resume=auto"]

    refused = command("train", *RUN, *settings)
    assert refused.returncode == 2
    assert "run: contains an interrupted run; resume=auto continues it" in refused.stderr
    refused = command("train", *words, "optimizer.lr=0.03")
    assert refused.returncode == 2
    assert "resume: optimizer.lr=0.03, but" in refused.stderr
    assert "last.ckpt is of a run with optimizer.lr=0.02; set it so, or" in " ".join(refused.stderr.split())

    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint.rename(checkpoint.with_name("elsewhere"))
    assert "contains an interrupted run" in command("train", *RUN, *settings).stderr  # by the one before
    checkpoint.with_name("elsewhere").rename(checkpoint)
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 3] ^= 16
    checkpoint.write_bytes(content)
    done = command("train", *words)
    assert done.returncode == 0, done.stderr
    assert "last.ckpt is damaged; it is now last.damaged" in " ".join(done.stdout.split())
    assert "teacher: already trained, reused from " in done.stdout
    checkpoint.with_suffix(".damaged").unlink()
    assert soak.compared(tmp_path / "whole", tmp_path / "run") == []

    before = (tmp_path / "run" / "summary.json").read_bytes()
    again = command("train", *words)
    assert again.returncode == 0, again.stderr
    assert "this run is already finished; nothing to do" in again.stdout
    assert (tmp_path / "run" / "summary.json").read_bytes() == before


def test_a_sweep_that_the_configuration_makes(command: Command, tmp_path: Path) -> None:
    """The command that goes on with it names its folder, and its table holds what was finished before."""
    run = [option for option in RUN if not option.startswith(("hydra.run", "experiment"))]
    sweep = [*run, "experiment=[quickstart,ablation]", "hydra.sweep.dir=sweep", "trainer.max_epochs=2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "stkd_lightning.train", *sweep],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (tmp_path / "sweep" / "1" / "config.yaml").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 143
    words = error.strip().splitlines()[-1].split("resume with: python -m stkd_lightning.train ")[1]
    assert words.endswith("hydra.sweep.dir=sweep resume=auto")
    done = command("train", *shlex.split(words))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("already finished") == 1
    rows = json.loads((tmp_path / "sweep" / "comparison.json").read_text())["rows"]
    assert [row["label"] for row in rows] == ["ce", "ce_mixup", "kd", "stkd"]


def test_a_replay_that_is_interrupted(command: Command, tmp_path: Path) -> None:
    settings = ["teacher.replay=true", "cache_dir=cache"]
    run = started(tmp_path, *settings)
    run.kill()
    run.communicate()
    for arguments in ([*settings, "resume=auto"], ["hydra.run.dir=without"]):
        done = command("train", *RUN, *arguments)
        assert done.returncode == 0, done.stderr
    assert soak.compared(tmp_path / "without", tmp_path / "run") == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("not run: a file system of its own may not be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    """One line, and the last checkpoint stays whole, from which the run then ends as it would have."""
    last = small_disk / "run" / "checkpoints" / "last.ckpt"
    long = [*RUN, "hydra.run.dir=disk/run", "trainer.max_epochs=500"]
    run = subprocess.Popen(
        [sys.executable, "-m", "stkd_lightning.train", *long],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with (small_disk / "fill").open("wb", buffering=0) as fill:
        while run.poll() is None:
            time.sleep(0.01)
            with suppress(OSError):  # what the run frees is taken at once
                while last.exists():
                    fill.write(bytes(4096))
    _, error = run.communicate(timeout=120)
    assert run.returncode == 1, error
    (line,) = [line for line in error.splitlines() if "error" in line.lower()]
    assert line.startswith("error: ")
    assert "cannot be written (No space left on device)" in line
    assert line.endswith("hydra.run.dir=disk/run resume=auto")
    assert intact(last)
    assert not list(small_disk.rglob(".*"))


def test_an_output_folder_below_a_file(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for option in ("hydra.run.dir=file/run", "cache_dir=file/cache"):
        done = command("train", *RUN, option)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "cannot be made" in done.stderr
        assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_data_that_change_under_a_run(tmp_path: Path) -> None:
    run = started(tmp_path, "trainer.max_epochs=500", "cache_dir=cache")
    (labels,) = (tmp_path / "cache" / "data").glob("digits-*/train_labels.npy")
    os.utime(labels)
    _, error = run.communicate(timeout=120)
    assert run.returncode == 1
    (line,) = [line for line in error.splitlines() if "error" in line.lower()]
    assert line.startswith(f"error: {labels}") or str(labels.name) in line
    assert line.endswith("hydra.run.dir=run resume=auto")


def test_a_term_that_is_not_finite(command: Command) -> None:
    done = command("train", *RUN, "loss=ce", "optimizer.lr=1e18")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    assert line.startswith(
        "error: loss: cross_entropy is nan in epoch 0, batch 1, after 1 steps; a smaller optimizer.lr"
    )
