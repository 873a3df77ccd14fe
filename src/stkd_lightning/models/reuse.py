"""A student that ends in its teacher's classifier: Chen et al. 2022, Sec. 3.2 (arXiv:2203.14001)."""

import copy
from dataclasses import replace
from typing import cast

import torch
from torch import nn

from stkd_lightning import ranges
from stkd_lightning.models.probe import Layers, Probe


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
        student: whose layers are known; see ``Probe``.
        teacher: likewise; stays as it is.
        reduction: of the projector, >= 1; 2 in the paper.
        image_size: side in pixels of the image on which channels are seen.

    Raises:
        InputError: a network whose layers cannot be found.
    """
    ranges.whole("student.reduction", reduction, minimum=1)
    image = torch.zeros(1, 3, image_size, image_size)
    own, other = Probe(student, image), Probe(teacher, image)
    layers = own.layers
    (mine,), (its,) = own.shapes([layers.pooled]), other.shapes([other.layers.pooled])
    network = own.inner
    pooling = network.get_submodule(layers.embedding)
    network.set_submodule(layers.embedding, nn.Sequential(Projector(mine[1], its[1], reduction), pooling))
    network.set_submodule(layers.head, copy.deepcopy(head_of(other)).requires_grad_(False))
    vars(network)["layers"] = replace(layers, pooled=projection(layers))
    Probe(student, image).shapes([projection(layers)])  # refuses one in which something stands before its pooling
    return student


def projection(layers: Layers) -> str:
    """Return where a student that reuses a classifier has its projector."""
    return f"{layers.embedding}.0"


def head_of(probe: Probe) -> nn.Linear:
    """Return a network's linear classifier."""
    return cast(nn.Linear, probe.inner.get_submodule(probe.layers.head))
