"""Two hosts train as one; when one is lost the other ends, and both together go on from the last checkpoint."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.faults.hosts import Hosts, two_hosts

RUN = ["experiment=quickstart", "teacher=resnet8", "teacher.max_epochs=1", "teacher.min_accuracy=0", "logger=csv",
       "baseline=false", "cache_dir=cache", "trainer=ddp_multinode", "trainer.accelerator=cpu", "trainer.devices=1",
       "trainer.num_nodes=2", "trainer.max_epochs=6", "dataset.batch_size=16"]  # fmt: skip
LIMIT = 120  # seconds


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with two_hosts(tmp_path) as hosts:
        yield hosts


@pytest.mark.slow
def test_a_lost_host(hosts: Hosts, tmp_path: Path) -> None:
    run = [*RUN, "hydra.run.dir=run", "resume=auto"]
    both = hosts.start(*RUN, "hydra.run.dir=whole")
    assert [p.wait(LIMIT) for p in both] == [0, 0], hosts.words()
    assert hosts.words().count("teacher: training") == hosts.words().count("student: training") == 1
    assert (tmp_path / "whole" / "summary.json").is_file()

    first, _ = hosts.start(*run)
    until = time.monotonic() + LIMIT
    while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists():
        assert time.monotonic() < until, hosts.words()
        time.sleep(0.05)
    hosts.lose(1)
    assert first.wait(60) != 0
    assert "error: rank 0: stopped, because another rank ended (" in hosts.words()
    assert not (tmp_path / "run" / "summary.json").exists()

    both = hosts.start(*run)
    assert [p.wait(LIMIT) for p in both] == [0, 0], hosts.words()
    assert f"student: resumed from {tmp_path}/run/checkpoints/last.ckpt" in hosts.words()
    whole, pieces = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "run")
    )
    assert whole.keys() == pieces.keys()
    assert all(torch.equal(whole[name], pieces[name]) for name in whole)
    assert {p.name for p in tmp_path.iterdir() if not p.name.startswith("host-")} == {"whole", "run", "cache"}
