"""Inspect a network before training: the paths of its layers, and the shapes of their outputs."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.models.classifier_layers import classifier_layers
from stkd_lightning.models.feature_hooks import FeatureTap, inner_network
from stkd_lightning.models.layers import Layers
from stkd_lightning.models.recording import Recording, record
from stkd_lightning.models.segmentation_layers import segmentation_layers
from stkd_lightning.models.tokens import classified_tokens
from stkd_lightning.utilities.errors import InputError

LARGE = 224  # pixels; most classifiers are made for images of this side
SMALL = 128, 160  # pixels; unequal multiples of 32, the stride of most encoders


class NetworkInspector:
    """Finds the layers of a network and their shapes, if necessary by a run on one image.

    Args:
        network: any classifier or segmentation network.
        image: example input: an image ``(1, C, H, W)``, or a clip ``(1, T)``.
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

    def tokens(self, path: str) -> slice | None:
        """Return the tokens of a transformer's feature ``(B, tokens, d)`` that the network classifies by their mean.

        Returns:
            ``None`` for features of another shape, and where the network does not show it.
        """
        (shape,) = self.shapes([path])
        if len(shape) != 3 or self.image.ndim != 4:
            return None
        noise = torch.randn(self.image.shape, generator=torch.Generator().manual_seed(0))
        return classified_tokens(NetworkInspector(self.network, noise).record(keep=True), shape[1])

    def record(self, *, keep: bool = False) -> Recording:
        """Return the recording of a run of the inner network; see ``recording.record``."""
        return record(self.inner, lambda: self.run(self.network), keep=keep)

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
    """Find the layers by a run; networks that declare none are classifiers or segmentation networks.

    On a small image the maps of the last stages have one position; therefore a larger image is tried first. A
    segmentation network is run on noise, since its maps are compared.

    Raises:
        InputError: the network cannot be run, or its layers are not found.
    """
    if inspector.image.ndim != 4:  # a clip
        return classifier_layers(inspector.record(), inspector.name)
    small = None
    with suppress(InputError):  # a network may take images of one size only
        small = _on_noise(inspector.inner, inspector.image, SMALL)
    if small is not None and small.scores is not None:
        inspector.run(inspector.network)  # refuses a network that cannot take its own images
        return segmentation_layers(small, inspector.name)
    scale = -(-LARGE // min(inspector.image.shape[2:]))
    if scale > 1:
        with suppress(InputError):
            larger = F.interpolate(inspector.image, scale_factor=scale)
            return classifier_layers(NetworkInspector(inspector.inner, larger).record(), inspector.name)
    recording = inspector.record()
    if recording.scores is not None:
        return segmentation_layers(
            _on_noise(inspector.network, inspector.image, inspector.image.shape[2:]), inspector.name
        )
    return classifier_layers(recording, inspector.name)


def _on_noise(network: nn.Module, image: Tensor, size: Sequence[int]) -> Recording:
    """Return a recording, with kept tensors, of a run on noise of a size."""
    noise = torch.randn(1, image.shape[1], *size, generator=torch.Generator().manual_seed(0))
    return NetworkInspector(network, noise).record(keep=True)
