"""Terms that are not finite are noticed within a step, without making a GPU wait for the CPU."""

import torch
from torch import Tensor

from stkd_lightning.utilities.errors import RunError

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
