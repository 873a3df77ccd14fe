"""Means of named scalars over steps, kept on the device until somebody looks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stkd_lightning.utilities.distributed import mean


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
