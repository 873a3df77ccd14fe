"""The terms of a loss during training: their running means, and a check that they are finite."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stkd_lightning.utilities.distributed import gather, world
from stkd_lightning.utilities.errors import RunError


@dataclass(frozen=True)
class Place:
    """The place of a step in a run, for messages."""

    epoch: int
    batch: int
    steps: int


@dataclass(frozen=True)
class _Pending:
    """Values on their way from a GPU to the host."""

    names: tuple[str, ...]
    values: Tensor
    arrived: torch.cuda.Event
    place: Place


class TermTracker:
    """Add up the terms of steps, and end a run whose terms are NaN or infinite.

    A step adds one operation and does not wait for the device: on a CPU its terms are checked at once, on a GPU those
    of the step before, which have arrived by then.
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._sum: Tensor | None = None
        self._count = 0
        self._pending: _Pending | None = None

    def add(self, names: tuple[str, ...], values: Tensor, place: Place) -> None:
        """Add the terms of a step; other names than before begin a new mean.

        Args:
            names: of the terms.
            values: scalars ``(n,)``.
            place: of the step.

        Raises:
            RunError: a term of this step (CPU) or of an earlier one (GPU) is NaN or infinite.
        """
        values = values.detach()
        self._check(names, values, place)
        if self._sum is not None:
            self._sum = self._sum.to(values.device)  # a state was loaded on the CPU
        if self._sum is None or names != self._names:
            self._names, self._sum, self._count = names, torch.zeros_like(values), 0
        self._sum = self._sum + values
        self._count += 1

    def pop_means(self) -> dict[str, Tensor]:
        """Return the means since the last call, and their sum as ``loss``; an empty dictionary after no step."""
        if self._sum is None:
            return {}
        means = self._sum / self._count
        self._sum = None
        return dict(zip(self._names, means, strict=True)) | {"loss": means.sum()}

    def state_dict(self) -> dict[str, Any]:
        """Return each rank's sums of the terms since the last ``pop_means``, ``(ranks, n)``; all ranks call it."""
        total = None if self._sum is None else gather(self._sum[None]).cpu()
        return {"names": list(self._names), "total": total, "count": self._count}

    def load_state_dict(self, names: Sequence[str] = (), total: Tensor | None = None, count: int = 0) -> None:
        """Continue from a state: with this rank's sums, so that no mean is rounded in another order."""
        if total is not None:
            rank, ranks = world()
            # Older states have the mean of the ranks; with another number of ranks only the mean is right.
            total = total[rank] if total.ndim == 2 and len(total) == ranks else total.reshape(-1, len(names)).mean(0)
        self._names, self._sum, self._count = tuple(names), total, count

    def _check(self, names: tuple[str, ...], values: Tensor, place: Place) -> None:
        if not values.is_cuda:
            _raise_if_not_finite(names, values, place)
            return
        self.check_pending()
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        self._pending = _Pending(names, host, arrived, place)

    def check_pending(self) -> None:
        """Check terms that have not been checked yet.

        Raises:
            RunError: a term is NaN or infinite.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.arrived.synchronize()
            _raise_if_not_finite(pending.names, pending.values, pending.place)


def _raise_if_not_finite(names: tuple[str, ...], values: Tensor, place: Place) -> None:
    if bool(values.isfinite().all()):
        return
    odd = ", ".join(f"{n} is {float(v)}" for n, v in zip(names, values, strict=True) if not v.isfinite())
    raise RunError(
        f"loss: {odd} in epoch {place.epoch}, batch {place.batch}, after {place.steps} steps; "
        "a smaller optimizer.lr or precision=32-true may help",
        passes=False,
    )


def check_weights(named: Sequence[tuple[str, Tensor]], epoch: int, steps: int) -> None:
    """Check parameters and buffers before they are saved.

    Raises:
        RunError: one is NaN or infinite; names it and the place in the run.
    """
    for name, tensor in named:
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise RunError(
                f"{name} is no longer finite in epoch {epoch}, after {steps} steps; "
                "a smaller optimizer.lr or precision=32-true may help",
                passes=False,
            )
