"""Two processes see what one would at the same global batch."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from stkd_lightning import Mixup, StepContext
from stkd_lightning.data import DigitsDataModule
from stkd_lightning.utilities.distributed import gather, world


def virtual_batches(mixup: Mixup, steps: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    loader = DigitsDataModule(batch_size=16).train_dataloader()
    batches = []
    for step, batch in zip(range(steps), loader, strict=False):
        virtual = mixup(batch, StepContext(epoch=0, max_epochs=1, step=step))
        batches.append((virtual.images, virtual.target.labels, virtual.target.weights))
    return batches


def one_rank(rank: int, folder: Path, mixup: Mixup) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    assert world() == (rank, 2)
    assert gather(torch.tensor([rank])).tolist() == [0, 1]
    torch.save(virtual_batches(mixup, 3), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize(
    "options", [{}, {"per_sample": True, "k": 3}, {"fraction": 0.3}, {"probability": 0.5}], ids=lambda o: str(list(o))
)
def test_ranks_mix_over_the_global_batch(options: dict[str, float], tmp_path: Path) -> None:
    mixup = Mixup(seed=1, **options)
    mp.spawn(one_rank, (tmp_path, mixup), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for whole, left, right in zip(virtual_batches(mixup, 3), *parts, strict=True):
        for expected, a, b in zip(whole, left, right, strict=True):
            assert torch.equal(expected, torch.cat([a, b]))
