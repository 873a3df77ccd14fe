"""Looking into a network before it is trained: where its layers are, and what shape their outputs have."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from stkd_lightning.errors import InputError
from stkd_lightning.models.features import FeatureTap, inner_network


@dataclass(frozen=True)
class Layers:
    """Where a network has what losses read, as module paths.

    Attributes:
        stages: feature maps ``(B, C, H, W)`` at the ends of its stages, from the input on.
        pooled: the map that is pooled.
        embedding: the pooling, whose output ``(B, C, 1, 1)`` or ``(B, C)`` the classifier reads.
        head: the linear classifier.
    """

    stages: tuple[str, ...]
    pooled: str
    embedding: str
    head: str


class Probe:
    """A network as a loss sees it that is fitted to it; run on one image where that is needed.

    Args:
        network: any classifier.
        image: ``(1, C, H, W)`` that it takes.
    """

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        self.network, self.image = network, image

    @property
    def inner(self) -> nn.Module:
        """The network without what resizes or normalizes its input."""
        return inner_network(self.network)

    @property
    def name(self) -> str:
        """Its class, for people."""
        return type(self.inner).__name__

    @cached_property
    def layers(self) -> Layers:
        """Its layers: those that it declares as ``layers``, else those seen in a run."""
        declared = getattr(self.inner, "layers", None)
        return declared if isinstance(declared, Layers) else _seen(self)

    def shapes(self, paths: Iterable[str]) -> tuple[torch.Size, ...]:
        """Return the shapes of the outputs of modules, the batch of 1 first.

        Raises:
            InputError: a path that is not there, or that gives no tensor.
        """
        tap = FeatureTap(self.network, paths)
        try:
            features = self._run(tap).features
        finally:
            tap.close()
        return tuple(features[path].shape for path in paths)

    def _run(self, run: Any) -> Any:
        """Run something on the image as the network in evaluation mode, which leaves no trace in it."""
        training = {module: module.training for module in self.network.modules()}
        parameter = next(self.network.parameters(), self.image)
        try:
            self.network.eval()
            with torch.no_grad():
                return run(self.image.to(parameter.device, parameter.dtype))
        except Exception as error:  # whatever the network's own code raises
            shape = tuple(self.image.shape)
            raise InputError(
                f"{self.name}: cannot be run on an image of shape {shape} to see the shapes of its features "
                f"({' '.join(str(error).split())}); pass DistillationModule an example=images"
            ) from error
        finally:
            for module, mode in training.items():
                module.training = mode


def _seen(probe: Probe) -> Layers:
    """Find layers by a run: the last outer module of each resolution, and what the last linear layer reads.

    Raises:
        InputError: there are none.
    """
    outputs: list[tuple[str, nn.Module, torch.Size]] = []

    def watch(path: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                outputs.append((path, module, output.shape))

        return hook

    handles = [m.register_forward_hook(watch(path)) for path, m in probe.inner.named_modules() if path]
    try:
        probe._run(probe.network)
    finally:
        for handle in handles:
            handle.remove()
    height, width = probe.image.shape[2:]
    maps: dict[tuple[int, ...], str] = {}
    for path, _, shape in outputs:
        is_map = len(shape) == 4 and shape[2] * shape[3] > 1 and shape[2] * width == shape[3] * height
        # What lies deeper is inside a block, whose end has another resolution.
        if is_map and path.count(".") <= maps.get(shape[2:], path).count("."):
            maps[shape[2:]] = path
    heads = [i for i, (_, module, _) in enumerate(outputs) if isinstance(module, nn.Linear)]
    head = outputs[heads[-1]] if heads else None
    read = [p for p, _, shape in outputs[: heads[-1]] if shape[1:].numel() == head[1].in_features] if head else []
    if not (maps and head and read):
        raise InputError(
            f"{probe.name}: its stages, pooled features and linear classifier cannot be told apart; "
            "name student_layers and teacher_layers of the loss"
        )
    *_, pooled = maps.values()
    return Layers(tuple(maps.values()), pooled, read[-1], head[0])
