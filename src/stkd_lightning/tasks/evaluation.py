"""The metrics of a network on a loader, without a trainer."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from stkd_lightning.tasks.base import Task
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.float32 import exact_float32


@exact_float32()
def measured(
    network: Callable[[Tensor], Tensor], loader: Iterable[Any], device: torch.device, task: Task, *, refusal: str
) -> dict[str, float]:
    """Return the metrics of a network on a loader of ``(inputs, labels, ...)``.

    Args:
        network: inputs ``(B, ...)`` on the device to logits; the caller turns gradients off.
        loader: the evaluated samples.
        device: of the computation.
        task: what the network predicts.
        refusal: text of the error.

    Raises:
        InputError: a logit is NaN or infinite.
    """
    metrics = task.metrics().to(device)
    for inputs, labels, *_ in loader:
        logits = task.infer(network, inputs.to(device))
        if not bool(logits.isfinite().all()):
            raise InputError(refusal)
        metrics.update(logits, labels.to(device))
    return {name: float(value) for name, value in metrics.compute(with_teacher=False).items()}
