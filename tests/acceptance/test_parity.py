"""Two ranks train like one process with the same global batch: the same samples, the same losses."""

import csv
from pathlib import Path

import pytest
import torch

from tests.conftest import Command

ONE = ["experiment=quickstart", "teacher=resnet8", "teacher.max_epochs=1", "teacher.min_accuracy=0", "logger=csv",
       "baseline=false", "precision=64-true", "trainer.log_every_n_steps=1"]  # fmt: skip
TWO = [*ONE, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]

NETWORK = """
from torch import nn

class Plain(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10),
        )
"""

LOSS = """
# @package _global_
defaults:
  - /term@loss.losses.stkd: stkd
  - /term@loss.losses.sp: sp
  - /term@loss.losses.cckd: cckd
  - /term@loss.losses.rkd: rkd
  - /term@loss.losses.pkt: pkt
  - /term@loss.losses.dist: dist
  - /mixup: beta
loss:
  _target_: stkd_lightning.losses.WeightedSum
  weights: {sp: 100.0, cckd: 100.0, rkd: 0.1, pkt: 1000.0}
"""

SPY = """
import lightning as L
import torch

class Spy(L.Callback):
    def __init__(self, folder):
        self.folder, self.indices, self.images = folder, [], []

    def on_train_start(self, trainer, module):
        see = lambda _, inputs: self.images.append(inputs[0].clone()) if module.training else None
        self.hook = module.student.register_forward_pre_hook(see)

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.indices.append(batch[2].clone())

    def on_train_end(self, trainer, module):
        self.hook.remove()
        torch.save((self.indices, self.images), f"{self.folder}.{trainer.global_rank}.pt")
"""


def steps(run: Path) -> list[dict[str, float]]:
    """Return what each optimizer step logged of the losses."""
    with (run / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    return [{name: float(value) for name, value in row.items() if name.startswith("train/")} for row in rows]


def test_losses_are_those_of_one_process(command: Command, fresh_command: Command, tmp_path: Path) -> None:
    """Where nothing in the network depends on a rank's own batch; also losses over pairs and over classes."""
    (tmp_path / "own_network.py").write_text(NETWORK)
    (tmp_path / "mine" / "loss").mkdir(parents=True)
    (tmp_path / "mine" / "loss" / "pairs.yaml").write_text(LOSS)
    mine = ["--config-dir", "mine"]
    own = ["loss=pairs", "student=custom", "student._target_=own_network.Plain", "trainer.max_steps=50"]
    for name, options, start in (("one", ONE, command), ("two", TWO, fresh_command)):
        done = start("train", *mine, *options, *own, f"hydra.run.dir={name}")
        assert done.returncode == 0, done.stderr
    one, two = steps(tmp_path / "one"), steps(tmp_path / "two")
    assert len(one) == len(two) == 50
    terms = {"cross_entropy", "similarity", "sp", "cckd", "rkd", "pkt", "dist_inter", "dist_intra", "loss"}
    assert set(one[0]) == {f"train/{term}" for term in terms}
    for expected, values in zip(one, two, strict=True):
        assert values == pytest.approx(expected, rel=1e-9)


def test_samples_and_virtual_images_are_those_of_one_process(
    command: Command, fresh_command: Command, tmp_path: Path
) -> None:
    """With BatchNorm, whose statistics are a rank's own, the losses differ, but not what is learned from."""
    (tmp_path / "own_callback.py").write_text(SPY)
    short = ["trainer.max_epochs=2", "trainer.limit_train_batches=4", "+callbacks.spy._target_=own_callback.Spy"]
    for name, options, start in (("one", ONE, command), ("two", TWO, fresh_command)):
        done = start("train", *options, *short, f"+callbacks.spy.folder={name}", f"hydra.run.dir=run/{name}")
        assert done.returncode == 0, done.stderr
    one, left, right = (torch.load(tmp_path / f"{name}.pt") for name in ("one.0", "two.0", "two.1"))
    for whole, first, second in zip(one, left, right, strict=True):
        assert len(whole) == len(first) == len(second) == 8
        for expected, *parts in zip(whole, first, second, strict=True):
            assert torch.equal(torch.cat(parts), expected)
