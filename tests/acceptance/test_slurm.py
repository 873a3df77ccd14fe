"""``trainer=slurm``: the tasks of a job are the ranks; here started as srun would start them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stkd_lightning.commands.training.slurm import slurm_environment
from stkd_lightning.utilities.errors import InputError
from tests.conftest import Command

RUN = ["experiment=quickstart", "loss=ce", "logger=csv", "baseline=false", "trainer=slurm", "trainer.accelerator=cpu",
       "trainer.max_epochs=1"]  # fmt: skip


def test_outside_a_job(command: Command, tmp_path: Path) -> None:
    done = command("train", *RUN, "trainer.devices=1")
    assert done.returncode == 2
    assert (
        done.stderr
        == "error: trainer=slurm: this process is not a task of a SLURM job; in a job script run: srun python -m ...\n"
    )
    assert not list(tmp_path.iterdir())


def test_this_project_requeues_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="not a task of a SLURM job"):
        slurm_environment()
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert not slurm_environment().auto_requeue


def test_two_tasks_are_two_ranks(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    job = {"NTASKS": "2", "STEP_NUM_TASKS": "2", "NTASKS_PER_NODE": "2", "JOB_NUM_NODES": "1", "NODEID": "0",
           "JOB_ID": "7", "NODELIST": "127.0.0.1"}  # fmt: skip
    tasks = []
    for rank in "01":
        environment = {f"SLURM_{name}": value for name, value in {**job, "PROCID": rank, "LOCALID": rank}.items()}
        tasks.append(
            subprocess.Popen(
                [sys.executable, "-m", "stkd_lightning.train", *RUN, "hydra.run.dir=run", "cache_dir=cache"],
                cwd=tmp_path,
                env={**os.environ, **environment, "MASTER_PORT": port},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    ended = [(*task.communicate(timeout=300), task.returncode) for task in tasks]
    assert [code for *_, code in ended] == [0, 0], ended
    assert [out.count("student: training") for out, *_ in ended] == [1, 0]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["student"]["test"]["last"]["accuracy"] > 0
    assert {p.name for p in tmp_path.iterdir()} == {"run", "cache"}
