"""A whole training step, optimizer included, as one CUDA graph."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.optim import SGD, Optimizer

from stkd_lightning.distillation.traced_step import NamedValues

WARM_UP = 3  # steps before the recording: compilation, the optimizer's state, and the libraries' workspaces


def can_record(optimizer: Optimizer) -> bool:
    """Return true if the optimizer's step reads its learning rate on the device and nothing on the host."""
    return type(optimizer) is SGD and bool(optimizer.defaults.get("fused"))


class WholeStep:
    """Forward, backward and the optimizer's step as one call; on CUDA recorded into one graph after ``WARM_UP`` calls.

    The first calls train like the later ones. The learning rates are read from the optimizer's groups at each call.

    Args:
        terms: computes terms with gradients from inputs in static memory.
        optimizer: one that ``can_record``.
    """

    def __init__(self, terms: Callable[[], NamedValues], optimizer: Optimizer) -> None:
        self._terms, self._optimizer = terms, optimizer
        device = optimizer.param_groups[0]["params"][0].device
        self._rates = [torch.zeros((), device=device) for _ in optimizer.param_groups]
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._calls = 0
        self._result: NamedValues = ((), torch.zeros(0))

    def __call__(self) -> NamedValues:
        """Train on a batch, and return its terms without gradients; the next call overwrites them."""
        for rate, group in zip(self._rates, self._optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        self._calls += 1
        if self._stream is None:
            self._result = self._step()
        elif self._graph is None:
            self._warm_up_or_record(self._stream)
        if self._graph is not None:
            self._graph.replay()
        return self._result

    def _step(self) -> NamedValues:
        self._optimizer.zero_grad(set_to_none=True)  # the backward pass then writes gradients instead of adding them
        names, values = self._terms()
        with torch.autocast(values.device.type, enabled=False):  # as where a trainer calls it
            values.sum().backward()
        with self._rates_on_device():
            self._optimizer.step()
        return names, values.detach()

    def _warm_up_or_record(self, stream: torch.cuda.Stream) -> None:
        # Autograd accumulates a gradient on the stream of the parameter's first use, so all steps share one stream.
        stream.wait_stream(torch.cuda.current_stream())
        if self._calls <= WARM_UP:
            with torch.cuda.stream(stream):
                self._result = self._step()
        else:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                self._result = self._step()  # recorded, not run
            self._graph = graph
        torch.cuda.current_stream().wait_stream(stream)

    @contextmanager
    def _rates_on_device(self) -> Iterator[None]:
        """Let the optimizer read its learning rates on the device; its groups keep their numbers."""
        groups = self._optimizer.param_groups
        numbers = [group["lr"] for group in groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = rate
        try:
            yield
        finally:
            for group, number in zip(groups, numbers, strict=True):
                group["lr"] = number
