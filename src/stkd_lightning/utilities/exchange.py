"""An exchange among ranks that is read later."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor


class Exchange:
    """Finds the largest of all ranks' values while the ranks compute.

    All ranks start an exchange at the same place, read it at the same later place, and so make the same decisions.
    Reading waits for the work before the start, not for the newest work of a GPU.

    Args:
        device: device on which the ranks communicate.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._open: tuple[Tensor, Callable[[], object]] | None = None

    def start(self, *values: int) -> None:
        """Start an exchange; the last one must have been read."""
        pinned = self._device.type == "cuda"
        numbers = torch.tensor(values, pin_memory=pinned).to(self._device, non_blocking=True)
        work = dist.all_reduce(numbers, dist.ReduceOp.MAX, async_op=True)
        if not pinned:
            self._open = numbers, work.wait
            return
        work.wait()  # the stream waits, not this process
        result = torch.empty(len(values), dtype=numbers.dtype, pin_memory=True).copy_(numbers, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        self._open = result, copied.synchronize

    def read(self) -> tuple[int, ...] | None:
        """Return the largest of all ranks' values, in the order of the start; ``None`` if nothing was started."""
        if self._open is None:
            return None
        (numbers, wait), self._open = self._open, None
        wait()
        return tuple(numbers.tolist())
