"""A student that ends in its teacher's classifier: Chen et al. 2022, Sec. 3.2 (arXiv:2203.14001)."""

import copy
from dataclasses import replace
from typing import cast

import torch
from torch import nn

from stkd_lightning.models.feature_hooks import INPUT, FeatureTap
from stkd_lightning.models.probe import NetworkInspector
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import InputError


class Projector(nn.Sequential):
    """1x1, 3x3 and 1x1 convolutions with BatchNorm and ReLU: ``(B, in, H, W)`` to ``(B, out, H, W)``.

    Args:
        width_in: the student's channels.
        width: the teacher's channels.
        reduction: >= 1, the factor by which the inner channels are fewer than the teacher's.
    """

    def __init__(self, width_in: int, width: int, reduction: int) -> None:
        inner = max(1, width // reduction)
        super().__init__(
            nn.Conv2d(width_in, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )


def reuse_classifier(student: nn.Module, teacher: nn.Module, *, reduction: int = 2, image_size: int = 32) -> nn.Module:
    """Put a projector before a student's pooling and a copy of the teacher's classifier behind it.

    Both are changes of the student itself, which is returned: it stays a network of its class, is counted, evaluated
    and stored as such. The classifier is frozen. With a teacher of other weights ``SimKDLoss`` brings the right ones.

    Args:
        student: whose layers are known; see ``NetworkInspector``.
        teacher: likewise; stays as it is.
        reduction: of the projector, >= 1; 2 in the paper.
        image_size: side in pixels of the image on which channels are seen.

    Raises:
        InputError: a network whose classifier is not linear in the mean of its last feature map; it stays as it is.
    """
    validation.whole("student.reduction", reduction, minimum=1)
    image = torch.randn(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    own, other = NetworkInspector(student, image), NetworkInspector(teacher, image)
    width_in, width = _pooled_width(own), _pooled_width(other)
    network, layers = own.inner, own.layers
    if isinstance(dict(network.named_modules()).get(layers.pooled), Projector):
        raise InputError(f"{own.name}: ends in a teacher's classifier already")
    if layers.embedding.endswith(INPUT) or own.shapes([layers.embedding + INPUT]) != own.shapes([layers.pooled]):
        raise InputError(f"{own.name}: has no module that pools its last feature map, before which to put a projector")
    pooling = network.get_submodule(layers.embedding)
    network.set_submodule(layers.embedding, nn.Sequential(Projector(width_in, width, reduction), pooling))
    network.set_submodule(layers.head, copy.deepcopy(head_of(other)).requires_grad_(False))
    vars(network)["feature_layers"] = replace(layers, pooled=f"{layers.embedding}.0")
    return student


def _pooled_width(probe: NetworkInspector) -> int:
    """Return the channels of the map whose mean a network's classifier reads.

    Raises:
        InputError: the classifier reads something else.
    """
    path = probe.layers.pooled
    if path:
        tap = FeatureTap(probe.network, [path])
        try:
            logits, features = probe.run(tap.parts)
        finally:
            tap.close()
        head, pooled = head_of(probe), features[path].mean((2, 3))
        if pooled.shape[1] == head.in_features and torch.allclose(head(pooled), logits, rtol=1e-3, atol=1e-4):
            return head.in_features
    raise InputError(f"{probe.name}: its linear classifier does not read the mean of a feature map, as SimKD needs it")


def head_of(probe: NetworkInspector) -> nn.Linear:
    """Return a network's linear classifier."""
    return cast(nn.Linear, probe.inner.get_submodule(probe.layers.head))
