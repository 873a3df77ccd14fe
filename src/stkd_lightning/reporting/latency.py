"""Latency of networks, measured side by side."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from stkd_lightning.utilities import validation
from stkd_lightning.utilities.float32 import exact_float32

WARM_UP = 3  # calls that allocate memory and choose kernels


@exact_float32()
def latencies(
    networks: Mapping[str, Callable[[Tensor], Tensor]], images: Tensor, *, rounds: int = 30
) -> dict[str, float]:
    """Return the median time of a call of each network, in seconds.

    In each round every network is called twice and the second call is timed: the first one loads the weights into the
    caches and lets the threads of other networks become idle, as in a program that uses this network only.

    Args:
        networks: networks by name, on the device of the images; called without gradients.
        images: one batch ``(B, 3, S, S)``.
        rounds: >= 1; other load on the machine affects all networks of a round equally.

    Raises:
        InputError: ``rounds`` is below 1.
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
                _synchronize(images)
                start = time.perf_counter()
                network(images)
                _synchronize(images)
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def _synchronize(images: Tensor) -> None:
    """Wait until an asynchronous device has finished."""
    if images.device.type != "cpu":
        torch.accelerator.synchronize(images.device)
