"""Inspect a network before training: the paths of its layers, and the shapes of their outputs."""

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

LARGE = 224  # pixels; most networks are made for images of this side


@dataclass(frozen=True)
class Layers:
    """The module paths of the features that losses read.

    Attributes:
        stages: feature maps ``(B, C, H, W)`` at the ends of the stages, from input to output; may be empty.
        pooled: the map that is pooled; empty if there is no map.
        embedding: the pooling, or another module whose output ``(B, C, 1, 1)`` or ``(B, C)`` the classifier reads.
        head: the linear classifier.
        auxiliary: the head that gives class scores from an earlier stage in training; empty if there is none.
    """

    stages: tuple[str, ...]
    pooled: str
    embedding: str
    head: str
    auxiliary: str = ""


class NetworkInspector:
    """Finds the layers of a network and their shapes, if necessary by a run on one image.

    Args:
        network: any classifier.
        image: example input ``(1, C, H, W)``.
    """

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        self.network, self.image = network, image

    @property
    def inner(self) -> nn.Module:
        """The network without the ``AdaptedInput`` before it."""
        return inner_network(self.network)

    @property
    def name(self) -> str:
        """The class name of the network."""
        return type(self.inner).__name__

    @cached_property
    def layers(self) -> Layers:
        """The layers that the network declares as ``feature_layers``; other networks are run once to find them."""
        declared = getattr(self.inner, "feature_layers", None)
        return declared if isinstance(declared, Layers) else _found_layers(self)

    def shapes(self, paths: Iterable[str]) -> tuple[torch.Size, ...]:
        """Return the shapes of the outputs of modules, for a batch of 1.

        Raises:
            InputError: a path that does not exist, or whose module returns no tensor.
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
                raise InputError(f"feature {path!r} of {self.name}: is no tensor when the network is run")
        return tuple(features[path].shape for path in paths)

    def run(self, run: Any) -> Any:
        """Run the network, or a function that calls it, on the image in evaluation mode; restore its mode."""
        training = {module: module.training for module in self.network.modules()}
        parameter = next(self.network.parameters(), self.image)
        try:
            self.network.eval()
            with torch.no_grad():
                return run(self.image.to(parameter.device, parameter.dtype))
        except Exception as error:  # the network's code may raise any type
            shape = tuple(self.image.shape)
            raise InputError(
                f"{self.name}: cannot be run on an image of shape {shape} to see the shapes of its features "
                f"({' '.join(str(error).split())}); pass DistillationModule an example=images"
            ) from error
        finally:
            for module, mode in training.items():
                module.training = mode


def _found_layers(inspector: NetworkInspector) -> Layers:
    """Find layers by a run: the last outer module of each resolution, and the input of the last linear layer.

    On a small image the maps of the last stages have one position; therefore a larger image is tried first. A network
    with maps of only one resolution, such as a transformer's patches, has no stages.

    Raises:
        InputError: the network has no linear layer.
    """
    scale = -(-LARGE // min(inspector.image.shape[2:]))
    if scale > 1:
        with suppress(InputError):
            return _found_layers(NetworkInspector(inspector.inner, F.interpolate(inspector.image, scale_factor=scale)))
    outputs: list[tuple[str, nn.Module, torch.Size]] = []

    def watch(path: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not isinstance(module, nn.Dropout):
                outputs.append((path, module, output.shape))

        return hook

    def begin(module: nn.Module, inputs: Any) -> None:
        input_shapes.append(inputs[0].shape)

    input_shapes: list[torch.Size] = []
    handles = [m.register_forward_hook(watch(path)) for path, m in inspector.inner.named_modules() if path]
    handles.append(inspector.inner.register_forward_pre_hook(begin))
    try:
        inspector.run(inspector.network)
    finally:
        for handle in handles:
            handle.remove()
    height, width = input_shapes[0][2:]
    maps: dict[tuple[int, ...], str] = {}
    calls = Counter(path for path, _, _ in outputs)
    # A module that runs several times has several outputs; the output of a pooling is not a stage.
    outputs = [output for output in outputs if calls[output[0]] == 1]
    for path, module, shape in outputs:
        if isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d):
            continue
        is_map = len(shape) == 4 and shape[2] * shape[3] > 1 and shape[2] * width == shape[3] * height
        # A deeper path is inside a block; the block ends in another resolution.
        if is_map and path.count(".") <= maps.get(shape[2:], path).count("."):
            maps[shape[2:]] = path
    stages = tuple(maps.values()) if len(maps) > 1 else ()
    heads = [i for i, (_, module, _) in enumerate(outputs) if isinstance(module, nn.Linear)]
    if not heads:
        raise InputError(
            f"{inspector.name}: no linear classifier was found; set student_layers and teacher_layers of the loss"
        )
    head, module, _ = outputs[heads[-1]]
    inputs = [path for path, _, shape in outputs[: heads[-1]] if shape[1:].numel() == module.in_features]
    *_, pooled = ("", *maps.values())
    return Layers(stages, pooled, inputs[-1] if inputs else f"{head}{INPUT}", head)
