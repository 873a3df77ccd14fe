"""The terms of a loss during training: their running means, and whether they are finite."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stkd_lightning.utilities.distributed import mean
from stkd_lightning.utilities.errors import RunError


class RunningMeans:
    """Adds up the terms of steps in one operation a step, without waiting for the device."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._sum: Tensor | None = None
        self._count = 0

    def add(self, names: tuple[str, ...], values: Tensor) -> None:
        """Add a step's scalars ``(n,)``; other names than before begin anew."""
        values = values.detach()
        if self._sum is not None:
            self._sum = self._sum.to(values.device)  # a state was loaded on the CPU
        if self._sum is None or names != self._names:
            self._names, self._sum, self._count = names, torch.zeros_like(values), 0
        self._sum = self._sum + values
        self._count += 1

    def pop(self) -> dict[str, Tensor]:
        """Return the means, and their sum as ``loss``, since the last call; nothing after no step."""
        if self._sum is None:
            return {}
        means = self._sum / self._count
        self._sum = None
        return dict(zip(self._names, means, strict=True)) | {"loss": means.sum()}

    def state(self) -> dict[str, Any]:
        """Return what was added since ``pop`` was last called, the mean over ranks; all ranks call it."""
        total = None if self._sum is None else mean(self._sum).cpu()
        return {"names": list(self._names), "total": total, "count": self._count}

    def load(self, names: Sequence[str] = (), total: Tensor | None = None, count: int = 0) -> None:
        """Go on from a state."""
        self._names, self._sum, self._count = tuple(names), total, count


Place = tuple[int, int, int]  # epoch, batch, optimizer steps so far


class FiniteTerms:
    """Looks at each step's terms: on a CPU at once; on a GPU at those of the step before, which are there by then."""

    def __init__(self) -> None:
        self._pending: tuple[tuple[str, ...], Tensor, torch.cuda.Event, Place] | None = None

    def look(self, names: tuple[str, ...], values: Tensor, place: Place) -> None:
        """Take note of a step's terms.

        Args:
            names: of the terms.
            values: ``(n,)``.
            place: for the message.

        Raises:
            RunError: a term of this step (CPU) or of an earlier one (GPU) is NaN or infinite.
        """
        values = values.detach()
        if not values.is_cuda:
            _judge(names, values, place)
            return
        self.settle()
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._pending = names, host, event, place

    def settle(self) -> None:
        """Look at what has not been looked at yet.

        Raises:
            RunError: as ``look``.
        """
        if self._pending is not None:
            names, values, event, place = self._pending
            self._pending = None
            event.synchronize()
            _judge(names, values, place)


def _judge(names: tuple[str, ...], values: Tensor, place: Place) -> None:
    if bool(values.isfinite().all()):
        return
    epoch, batch, steps = place
    odd = ", ".join(f"{n} is {float(v)}" for n, v in zip(names, values, strict=True) if not v.isfinite())
    raise RunError(
        f"loss: {odd} in epoch {epoch}, batch {batch}, after {steps} steps; "
        "a smaller optimizer.lr or precision=32-true may help",
        passes=False,
    )
