"""Record the outputs of a network's modules in one run."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from stkd_lightning.models.logits import logits_of
from stkd_lightning.utilities.errors import InputError


@dataclass(frozen=True)
class Call:
    """A call of a module, in the order in which calls end.

    Attributes:
        path: of the module.
        module: the module.
        shape: of the output; empty if it is no tensor.
        inputs: the arguments; empty unless tensors are kept.
        output: a copy of the output; ``None`` if it is no tensor, or unless tensors are kept.
    """

    path: str
    module: nn.Module
    shape: torch.Size
    inputs: tuple[Any, ...] = ()
    output: Tensor | None = None

    @property
    def positions(self) -> int:
        """Height times width of a map."""
        return self.shape[2:].numel()


@dataclass
class Recording:
    """A run of a network.

    Attributes:
        network: the network.
        input_shape: shape of its input.
        output: its output, of any type.
        calls: of modules that ran once; a module that runs several times has several outputs.
    """

    network: nn.Module
    input_shape: tuple[int, ...] = ()
    output: Any = None
    calls: list[Call] = field(default_factory=list)

    @property
    def scores(self) -> Tensor | None:
        """The class scores ``(B, K, h, w)`` of a segmentation network; ``None`` for a classifier."""
        try:
            scores = logits_of(self.output)
        except InputError:  # layers can be found without them
            return None
        dense = scores.ndim == 4 and scores.shape[2] * scores.shape[3] > 1
        return scores if dense else None

    def is_map(self, shape: torch.Size) -> bool:
        """Return whether an output's shape is that of a map of several positions, of an image in its proportion."""
        if len(self.input_shape) != 4:  # a map of a clip over time and frequency
            return len(shape) == 4 and shape[2] * shape[3] > 1
        height, width = self.input_shape[2:]
        return len(shape) == 4 and shape[2] * shape[3] > 1 and shape[2] * width == shape[3] * height


def record(network: nn.Module, run: Callable[[], Any], *, keep: bool = False) -> Recording:
    """Return the recording of a run.

    Args:
        network: its modules are recorded.
        run: calls the network once, directly or inside of another module.
        keep: keep copies of the outputs, since later modules may change a tensor in place.
    """
    recording = Recording(network)

    def watch(path: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            shape = output.shape if isinstance(output, Tensor) else torch.Size()
            copied = output.clone() if keep and isinstance(output, Tensor) else None
            recording.calls.append(Call(path, module, shape, inputs if keep else (), copied))

        return hook

    def begin(module: nn.Module, inputs: Any) -> None:
        recording.input_shape = inputs[0].shape

    def end(module: nn.Module, inputs: Any, output: Any) -> None:
        recording.output = output

    handles = [module.register_forward_hook(watch(path)) for path, module in network.named_modules() if path]
    handles += [network.register_forward_pre_hook(begin), network.register_forward_hook(end)]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    times = Counter(call.path for call in recording.calls)
    recording.calls = [call for call in recording.calls if times[call.path] == 1]
    return recording
