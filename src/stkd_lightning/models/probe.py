"""Looking into a network before it is trained: where its layers are, and what shape their outputs have."""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.models.feature_hooks import INPUT, FeatureTap, inner_network
from stkd_lightning.utilities.errors import InputError

LARGE = 224  # pixels, the side for which most networks are made


@dataclass(frozen=True)
class Layers:
    """Where a network has what losses read, as module paths.

    Attributes:
        stages: feature maps ``(B, C, H, W)`` at the ends of its stages, from the input on; may be none.
        pooled: the map that is pooled; empty where there is no map.
        embedding: the pooling, or what else gives the classifier its input, ``(B, C, 1, 1)`` or ``(B, C)``.
        head: the linear classifier.
    """

    stages: tuple[str, ...]
    pooled: str
    embedding: str
    head: str


class NetworkInspector:
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
        """Its layers: those that it declares as ``feature_layers``, else those seen in a run."""
        declared = getattr(self.inner, "feature_layers", None)
        return declared if isinstance(declared, Layers) else _seen(self)

    def shapes(self, paths: Iterable[str]) -> tuple[torch.Size, ...]:
        """Return the shapes of the outputs of modules, the batch of 1 first.

        Raises:
            InputError: a path that is not there, or that gives no tensor.
        """
        paths = tuple(paths)
        if not paths:
            return ()
        tap = FeatureTap(self.network, paths)
        try:
            features = self.run(tap).features
        finally:
            tap.close()
        for path in paths:
            if not isinstance(features.get(path), Tensor):
                raise InputError(f"feature {path!r} of {self.name}: gives no tensor when the network is run")
        return tuple(features[path].shape for path in paths)

    def run(self, run: Any) -> Any:
        """Run the network, or something that runs it, on the image in evaluation mode; leaves no trace in it."""
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


def _seen(probe: NetworkInspector) -> Layers:
    """Find layers by a run: the last outer module of each resolution, and what the last linear layer reads.

    On a small image the last stages end in one position, so that a larger one is shown first, if the network takes it.
    A network with maps of one resolution only, such as a transformer's patches, has no stages.

    Raises:
        InputError: there is no linear layer.
    """
    scale = -(-LARGE // min(probe.image.shape[2:]))
    if scale > 1:
        with suppress(InputError):
            return _seen(NetworkInspector(probe.inner, F.interpolate(probe.image, scale_factor=scale)))
    outputs: list[tuple[str, nn.Module, torch.Size]] = []

    def watch(path: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not isinstance(module, nn.Dropout):
                outputs.append((path, module, output.shape))

        return hook

    def begin(module: nn.Module, inputs: Any) -> None:
        shown.append(inputs[0].shape)

    shown: list[torch.Size] = []
    handles = [m.register_forward_hook(watch(path)) for path, m in probe.inner.named_modules() if path]
    handles.append(probe.inner.register_forward_pre_hook(begin))
    try:
        probe.run(probe.network)
    finally:
        for handle in handles:
            handle.remove()
    height, width = shown[0][2:]
    maps: dict[tuple[int, ...], str] = {}
    calls = Counter(path for path, _, _ in outputs)
    # Of a module that is run several times only the last output could be read; a pooling's is no stage of its own.
    outputs = [output for output in outputs if calls[output[0]] == 1]
    for path, module, shape in outputs:
        if isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d):
            continue
        is_map = len(shape) == 4 and shape[2] * shape[3] > 1 and shape[2] * width == shape[3] * height
        # What lies deeper is inside a block, whose end has another resolution.
        if is_map and path.count(".") <= maps.get(shape[2:], path).count("."):
            maps[shape[2:]] = path
    stages = tuple(maps.values()) if len(maps) > 1 else ()
    heads = [i for i, (_, module, _) in enumerate(outputs) if isinstance(module, nn.Linear)]
    if not heads:
        raise InputError(
            f"{probe.name}: no linear classifier can be seen in it; name student_layers and teacher_layers of the loss"
        )
    head, module, _ = outputs[heads[-1]]
    read = [path for path, _, shape in outputs[: heads[-1]] if shape[1:].numel() == module.in_features]
    *_, pooled = ("", *maps.values())
    return Layers(stages, pooled, read[-1] if read else f"{head}{INPUT}", head)
