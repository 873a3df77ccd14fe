"""A training on two ranks that is interrupted logs and learns what an uninterrupted one does, to the last bit."""

import os
import socket
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.multiprocessing as mp
from lightning.pytorch.strategies import DDPStrategy

from stkd_lightning.callbacks import Checkpoints, Seeding
from stkd_lightning.commands.training.ranks import keep_own_buffers
from stkd_lightning.data import DigitsDataModule
from stkd_lightning.losses import STKDLoss
from stkd_lightning.reporting.loggers.metrics_csv import MetricsFile
from stkd_lightning.utilities import signals
from stkd_lightning.utilities.files import BEST, LAST
from tests.callbacks.test_checkpoints import Ask, distillation

# Ranks agree at every eighth batch that one of them was asked to end; three steps lie between two logged ones.
AFTER = (3, 12, 22, 28)


class Saved(L.Callback):
    """Notes at which step a rank saves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        notes = self.folder.parent / "saved" / f"{self.folder.name} {trainer.global_rank}"
        notes.parent.mkdir(exist_ok=True)
        with notes.open("a") as file:
            file.write(f"{trainer.global_step}\n")


def fit(
    folder: Path, after: int = 0, *, asked: bool = True, minutes: float = 10, strategy: DDPStrategy | None = None
) -> None:
    """Train for two epochs of 18 batches, or until the run has ended in the middle."""
    signals._State.received = None
    checkpoint, ask = folder / LAST, [Ask(after)] if after and asked else []
    trainer = L.Trainer(
        max_epochs=2, log_every_n_steps=3, accelerator="cpu", devices=2, strategy=strategy or "ddp",
        logger=MetricsFile(folder), default_root_dir=folder,
        callbacks=[Seeding(5), *ask, Saved(folder), Checkpoints(folder, select=True, minutes=minutes)],
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False,
    )  # fmt: skip
    keep_own_buffers(trainer)
    try:
        trainer.fit(distillation(STKDLoss), DigitsDataModule(), ckpt_path=checkpoint if checkpoint.is_file() else None)
        assert not after
    except signals.Interrupted:
        assert after
    trainer.strategy.barrier()


def one_rank(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": str(rank)}
    fit(folder / "whole")
    for after in AFTER:  # asked: both ranks, or one
        fit(folder / str(after), after, asked=after == AFTER[0] or rank == 1)
        fit(folder / str(after))
    fit(folder / "shared", strategy=DDPStrategy(broadcast_buffers=True))
    fit(folder / "late", minutes=1e-9 if rank == 1 else 10)
    torch.distributed.destroy_process_group()


def test_an_interrupted_training_on_two_ranks_equals_a_whole_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    mp.spawn(one_rank, (port, tmp_path), nprocs=2)
    for after in (*map(str, AFTER), "shared", "late"):
        for name in (LAST, BEST):
            one, other = (torch.load(tmp_path / f / name, weights_only=True)["state_dict"] for f in ("whole", after))
            assert all(torch.equal(value, other[key]) for key, value in one.items())
        metrics = [(tmp_path / folder / "metrics.csv").read_text() for folder in ("whole", after)]
        assert metrics[0] == metrics[1], after
    saved = {path.name: path.read_text().split() for path in (tmp_path / "saved").iterdir()}
    assert saved["whole 0"] == saved["whole 1"] == ["18", "36"]
    assert saved["late 0"] == saved["late 1"] == ["8", "18", "33", "36"]  # none right after a validation
    for after in map(str, AFTER):
        assert saved[f"{after} 0"] == saved[f"{after} 1"]
    assert [saved[f"{after} 0"] for after in AFTER] == [
        ["16", "18", "36"],
        ["18", "36"],
        ["18", "33", "36"],
        ["18", "36"],
    ]
