"""Two processes see what one would at the same global batch."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from stkd_lightning import Batch, Mixup, StepContext
from stkd_lightning.data import DigitsDataModule
from stkd_lightning.utilities.distributed import gather, world

OPTIONS: list[dict[str, Any]] = [
    {},
    {"per_sample": True, "k": 3},
    {"fraction": 0.3},
    {"probability": 0.5},
    {"partner": "other_class"},
]


def virtual_batches(
    mixup: Mixup, steps: int, *, resident: bool = True
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    loader = DigitsDataModule(batch_size=16).train_dataloader()
    batches = []
    for step, batch in zip(range(steps), loader, strict=False):
        virtual = mixup(batch if resident else Batch(*batch), StepContext(epoch=0, max_epochs=1, step=step))
        batches.append((virtual.images, virtual.target.labels, virtual.target.weights))
    return batches


def refuse(*arguments: Any, **options: Any) -> None:
    raise AssertionError("the ranks exchange tensors")


def one_rank(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    assert world() == (rank, 2)
    assert gather(torch.tensor([rank])).tolist() == [0, 1]
    gathered = [virtual_batches(Mixup(seed=1, **options), 3, resident=False) for options in OPTIONS]
    with pytest.MonkeyPatch.context() as patched:  # a rank makes the partners of resident data by itself
        patched.setattr(dist, "all_gather", refuse)
        resident = [virtual_batches(Mixup(seed=1, **options), 3) for options in OPTIONS]
    torch.save({"gathered": gathered, "resident": resident}, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The virtual batches of both ranks, for all options from one start."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(one_rank, (folder,), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("partners", ["gathered", "resident"])
@pytest.mark.parametrize("case", range(len(OPTIONS)), ids=lambda case: str(list(OPTIONS[case])))
def test_ranks_mix_over_the_global_batch(case: int, partners: str, ranks: list[Any]) -> None:
    left_batches, right_batches = (rank[partners][case] for rank in ranks)
    expected_batches = virtual_batches(Mixup(seed=1, **OPTIONS[case]), 3)
    for whole, left, right in zip(expected_batches, left_batches, right_batches, strict=True):
        for expected, a, b in zip(whole, left, right, strict=True):
            assert torch.equal(expected, torch.cat([a, b]))


def test_process_group_is_destroyed_before_the_interpreter_ends(tmp_path: Path) -> None:
    program = (
        "import atexit\nimport torch.distributed as dist\n"
        "from stkd_lightning.utilities.distributed import leave_at_exit\n"
        "atexit.register(lambda: print('group:', dist.is_initialized()))\n"  # the last that runs
        f"dist.init_process_group('gloo', init_method='file://{tmp_path / 'store'}', rank=0, world_size=1)\n"
        "leave_at_exit()\nleave_at_exit()\nprint('group:', dist.is_initialized())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["group:", "True", "group:", "False"]
