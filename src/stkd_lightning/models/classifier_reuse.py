"""A student with its teacher's classifier: Chen et al. 2022, Sec. 3.2 (arXiv:2203.14001)."""

import copy
from dataclasses import replace
from typing import cast

import torch
from torch import nn

from stkd_lightning.models.feature_hooks import INPUT, FeatureTap
from stkd_lightning.models.input_adapter import LARGEST, declared
from stkd_lightning.models.probe import NetworkInspector
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import InputError, UndefinedError
from stkd_lightning.utilities.image_size import Size, shape_of, sides


class Projector(nn.Sequential):
    """1x1, 3x3 and 1x1 convolutions with BatchNorm and ReLU: ``(B, in, H, W)`` to ``(B, out, H, W)``.

    Args:
        width_in: the student's channels.
        width: the teacher's channels.
        reduction: >= 1; the teacher's channels divided by the inner channels.
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


def reuse_classifier(
    student: nn.Module, teacher: nn.Module, *, reduction: int = 2, image_size: Size | None = None
) -> nn.Module:
    """Insert a projector before a student's pooling, and replace its classifier by a copy of the teacher's.

    The student is changed in place and returned: it keeps its class, and is counted, evaluated and saved with these
    parts. The classifier is frozen. If the teacher has other weights later, ``SimKDLoss`` copies them. As in the
    authors' code, the projector reads the last stage: modules between the last stage and the pooling, which ShuffleV2
    and MobileNetV2 declare (``Layers.after_stages``), are removed.

    Args:
        student: a network with known layers; see ``NetworkInspector``.
        teacher: likewise; it does not change.
        reduction: of the projector, >= 1; 2 in the paper.
        image_size: side in pixels of the image that is run to find the channels, or height and width; ``None``: 32. A
            network that declares an input size is run at that one.

    Raises:
        InputError: an argument outside its range, or a network whose classifier is not linear in the mean of its last
            feature map; no network changes.
    """
    validation.whole("student.reduction", reduction, minimum=1)
    image_size = 32 if image_size is None else image_size
    for side in sides(image_size):
        validation.whole("distilled.image_size", side, minimum=1, maximum=LARGEST)
    inspector, teacher_inspector = (_inspector(network, image_size) for network in (student, teacher))
    width_in, width = (pooled_width(network, "SimKD") for network in (inspector, teacher_inspector))
    removed = inspector.layers.after_stages
    if removed:
        ((_, width_in, *_),) = inspector.shapes([removed[0] + INPUT])
    network, layers = inspector.inner, inspector.layers
    if isinstance(dict(network.named_modules()).get(layers.pooled), Projector):
        raise InputError(f"{inspector.name}: already has a teacher's classifier")
    shapes = inspector.shapes
    if layers.embedding.endswith(INPUT) or shapes([layers.embedding + INPUT]) != shapes([layers.pooled]):
        raise InputError(f"{inspector.name}: has no module that pools its last feature map, as a projector needs it")
    for path in removed:
        network.set_submodule(path, nn.Identity())
    pooling = network.get_submodule(layers.embedding)
    network.set_submodule(layers.embedding, nn.Sequential(Projector(width_in, width, reduction), pooling))
    network.set_submodule(layers.head, copy.deepcopy(head_of(teacher_inspector)).requires_grad_(False))
    vars(network)["feature_layers"] = replace(layers, pooled=f"{layers.embedding}.0", after_stages=())
    return student


def _inspector(network: nn.Module, image_size: Size) -> NetworkInspector:
    shape = shape_of(3, declared(network).size or image_size)
    return NetworkInspector(network, torch.randn(1, *shape, generator=torch.Generator().manual_seed(0)))


def pooled_width(inspector: NetworkInspector, method: str) -> int:
    """Return the channels of the feature map whose mean is the input of a network's classifier.

    Args:
        inspector: of the network.
        method: that needs such a classifier, for the message.

    Raises:
        InputError: the classifier has another input.
    """
    path = inspector.layers.pooled
    head: nn.Module = head_of(inspector)
    if path and isinstance(head, nn.Linear):  # that of a segmentation network is a convolution
        tap = FeatureTap(inspector.network, [path])
        # Maps of an image of zeros may be zero, whatever pools them.
        image = torch.randn(inspector.image.shape, generator=torch.Generator().manual_seed(0)).to(inspector.image)
        try:
            logits, features = NetworkInspector(inspector.network, image).run(tap.parts)
        finally:
            tap.close()
        pooled = features[path].mean((2, 3))
        if pooled.shape[1] == head.in_features and torch.allclose(head(pooled), logits, rtol=1e-3, atol=1e-4):
            return head.in_features
    raise UndefinedError(
        f"{inspector.name}: its linear classifier does not read the mean of a feature map, as {method} needs it"
    )


def head_of(inspector: NetworkInspector) -> nn.Linear:
    """Return a network's linear classifier."""
    return cast(nn.Linear, inspector.inner.get_submodule(inspector.layers.head))
