"""How long networks take for a batch, measured side by side."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from stkd_lightning.utilities import validation

WARM_UP = 3  # calls, in which memory is allocated and kernels are chosen


def latencies(
    networks: Mapping[str, Callable[[Tensor], Tensor]], images: Tensor, *, rounds: int = 30
) -> dict[str, float]:
    """Return the median seconds of a call of each network.

    In each round every network is called twice and the second call is timed: the first brings its weights into the
    caches and lets the threads of others come to rest, as in a program that uses it alone.

    Args:
        networks: by name; take the images where they are, without gradients.
        images: one batch ``(B, 3, S, S)``.
        rounds: >= 1; what else happens on the machine meanwhile hits all networks alike.

    Raises:
        InputError: rounds below 1.
    """
    validation.whole("rounds", rounds, minimum=1)
    times: dict[str, list[float]] = {name: [] for name in networks}
    with torch.inference_mode():
        for network in networks.values():
            for _ in range(WARM_UP):
                network(images)
        for _ in range(rounds):
            for name, network in networks.items():
                network(images)
                _finish(images)
                start = time.perf_counter()
                network(images)
                _finish(images)
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def _finish(images: Tensor) -> None:
    """Wait for a device that works while the program goes on."""
    if images.device.type != "cpu":
        torch.accelerator.synchronize(images.device)
