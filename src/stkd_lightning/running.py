"""Means of named scalars over steps, kept on the device until somebody looks."""

import torch
from torch import Tensor


class RunningMeans:
    """Adds up the terms of steps in one operation a step, without waiting for the device."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._sum: Tensor | None = None
        self._count = 0

    def add(self, names: tuple[str, ...], values: Tensor) -> None:
        """Add a step's scalars ``(n,)``; other names than before begin anew."""
        values = values.detach()
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
