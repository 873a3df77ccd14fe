"""Communication among ranks, for losses and mixing."""

import atexit
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def world() -> tuple[int, int]:
    """Return this process's rank and the number of ranks; ``(0, 1)`` outside distributed training."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gather(tensor: Tensor) -> Tensor:
    """Return the global batch: every rank's ``(B, ...)`` tensor in the order of ranks, without gradients."""
    _, ranks = world()
    if ranks == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(ranks)]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


class _Gather(torch.autograd.Function):
    """Gather with a backward pass: every rank has a loss of the global batch, and the ranks' gradients are summed."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.size = len(tensor)
        return gather(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        rank, _ = world()
        total = gradients[0].contiguous()
        total = total.clone() if total is gradients[0] else total
        dist.all_reduce(total)
        return total[rank * ctx.size : (rank + 1) * ctx.size]


def gather_with_gradient(tensor: Tensor) -> Tensor:
    """Return the global batch as ``gather`` does, with gradients for this rank's part.

    Gradients are summed over the ranks. If each rank has a loss of the global batch and DDP averages the gradients of
    the parameters, a step equals that of a single process with the whole batch.
    """
    return tensor if world()[1] == 1 else _Gather.apply(tensor)


def share_buffers(network: nn.Module) -> None:
    """Copy the first rank's buffers, such as BatchNorm's statistics, to all ranks."""
    if world()[1] > 1:
        for buffer in network.buffers():
            dist.broadcast(buffer, src=0)


def of_first_rank(value: bool) -> bool:
    """Return the first rank's value on all ranks."""
    if world()[1] == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def barrier() -> None:
    """Wait for all ranks."""
    if world()[1] > 1:
        dist.barrier()


@cache
def leave_at_exit() -> None:
    """Destroy the process group when this process exits, as Lightning does for NCCL only.

    Gloo's threads that are still running while the interpreter is torn down abort a finished rank
    (pytorch/pytorch issue 190489), and its launcher then reports a failed run.
    """
    atexit.register(_leave)


def _leave() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
