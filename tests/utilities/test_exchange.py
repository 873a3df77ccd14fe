"""Two ranks agree on what one of them wants, later than they say it."""

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from stkd_lightning.utilities.exchange import Exchange


def one_rank(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    exchange = Exchange(torch.device("cpu"))
    assert exchange.read() is None
    exchange.start(15 * rank, 1 - rank)
    parts = [torch.empty(1) for _ in range(2)]
    dist.all_gather(parts, torch.tensor([float(rank)]))  # other communication in the meantime
    assert [float(part) for part in parts] == [0, 1]
    assert exchange.read() == (15, 1)
    assert exchange.read() is None
    exchange.start(0)
    assert exchange.read() == (0,)
    (folder / str(rank)).touch()
    dist.destroy_process_group()


def test_exchange_gives_all_ranks_the_largest_values(tmp_path: Path) -> None:
    mp.spawn(one_rank, (tmp_path,), nprocs=2)
    assert {"0", "1"} <= {path.name for path in tmp_path.iterdir()}
