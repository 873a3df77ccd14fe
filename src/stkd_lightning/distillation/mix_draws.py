"""The draws of mixing, and their use: virtual inputs, mixed labels, and partners of another class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stkd_lightning.tasks.types import MixedTarget, VirtualBatch
from stkd_lightning.utilities.errors import InputError

At = Callable[[Tensor], Tensor]
MakeTarget = Callable[[Tensor, Tensor], MixedTarget]


class BatchDraws(NamedTuple):
    """The draws of one global batch of G samples, as they are drawn.

    Attributes:
        partners: ``(G, k)`` places in the batch, of which the first is the sample's.
        weights: ``(G, k)``, each row non-negative with sum 1.
        mixed: ``(G,)`` bool, false for samples that are left clean.
        box: ``(G, 2 d)`` first position, and the position after the last, of a partner's part in each of the d
            dimensions of an input; equal where there is none. ``None``: there is none in any sample. With boxes k is 2.
    """

    partners: NDArray[np.int64]
    weights: NDArray[np.float64]
    mixed: NDArray[np.bool_]
    box: NDArray[np.int64] | None = None


class MixDraws(NamedTuple):
    """The draws of a rank's samples ``(B, ...)``, or of several batches ``(N, B, ...)``; see ``BatchDraws``."""

    partners: Tensor
    weights: Tensor
    mixed: Tensor
    box: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> "MixDraws":
        """Return changed tensors."""
        return MixDraws(*(None if part is None else change(part) for part in self))  # type: ignore[arg-type]

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the tensors that there are."""
        return tuple(part for part in self if part is not None)


@dataclass(frozen=True)
class Samples:
    """A rank's samples, and those of the global batch.

    Attributes:
        inputs: ``(B, ...)`` float.
        labels: ``(B, ...)``.
        inputs_at: from places ``(n,)`` in the global batch to inputs.
        labels_at: from places of any shape in the global batch to labels.
        total: G, number of samples of the global batch.
    """

    inputs: Tensor
    labels: Tensor
    inputs_at: At
    labels_at: At
    total: int


def sides_of(inputs: Tensor) -> tuple[int, ...]:
    """Return the sides of inputs: ``(H, W)`` of ``(B, C, H, W)``, ``(T,)`` of ``(B, T)`` or ``(B, C, T)``."""
    return tuple(inputs.shape[1:] if inputs.ndim == 2 else inputs.shape[2:])


def virtual_batch(
    samples: Samples,
    draws: MixDraws,
    target: MakeTarget,
    *,
    keep: bool = False,
    other_class: bool = False,
    any_mixed: bool = True,
) -> VirtualBatch:
    """Mix samples by their draws.

    Args:
        samples: of a rank.
        draws: of one batch.
        target: makes the target of labels ``(B, k, ...)`` and weights.
        keep: put the clean samples before the virtual ones, which gives 2 B rows.
        other_class: replace each partner by one of another class; see ``with_other_class``.
        any_mixed: false: no sample of the global batch is mixed, and the inputs are not touched.
    """
    if other_class:
        draws = with_other_class(draws, samples)
    inputs = combined(samples.inputs, draws, samples.inputs_at) if any_mixed else samples.inputs
    labels, weights = samples.labels_at(draws.partners), draws.weights
    if draws.box is not None and labels.ndim == 4:  # a label for each pixel moves with its pixel
        weights = _weights_of_pixels(draws, (labels.shape[2], labels.shape[3]))
    clean = ~draws.mixed
    if keep:
        inputs = torch.cat([samples.inputs, inputs])
        own = samples.labels[:, None].expand_as(labels)
        labels = torch.cat([own, labels])
        first = torch.zeros_like(weights)
        first[:, 0] = 1
        weights, clean = torch.cat([first, weights]), torch.cat([torch.ones_like(clean), clean])
    return VirtualBatch(inputs, replace(target(labels, weights), clean=clean))


def combined(inputs: Tensor, draws: MixDraws, at: At) -> Tensor:
    """Return the virtual inputs: convex combinations, with the partner's own values inside a box.

    Args:
        inputs: float ``(B, ...)``, of this rank. The second channel of padded clips ``(B, 2, T)``, which says where
            there is no padding, is combined inside a box, too.
        draws: of one batch.
        at: from places in the global batch ``(B,)`` to inputs.
    """
    shape = (-1,) + (1,) * (inputs.ndim - 1)
    virtual, partner = draws.weights[:, 0].view(shape) * inputs, inputs
    for j in range(1, draws.partners.shape[1]):
        partner = at(draws.partners[:, j])
        virtual = virtual + draws.weights[:, j].view(shape) * partner
    if draws.box is not None:
        sides = sides_of(inputs)
        inside, pasted = _inside(draws.box, sides), _pasted(draws.box)
        if inputs.ndim > 2:
            inside = inside[:, None]
        pasted = pasted.view(shape)
        if inputs.ndim == 3 and inputs.shape[1] == 2:
            pasted = torch.cat([pasted, torch.zeros_like(pasted)], dim=1)
        virtual = torch.where(pasted, torch.where(inside, partner, inputs), virtual)
    return virtual.to(inputs.dtype)


def _pasted(box: Tensor) -> Tensor:
    """Return which samples ``(B,)`` have a part of their partner."""
    return (box[:, 1::2] > box[:, ::2]).all(1)


def _inside(box: Tensor, sides: Sequence[int]) -> Tensor:
    """Return which positions ``(B, *sides)`` are inside a box."""
    inside = torch.ones((), dtype=torch.bool, device=box.device)
    for dimension, side in enumerate(sides):
        position = torch.arange(side, device=box.device)
        first, end = box[:, 2 * dimension, None], box[:, 2 * dimension + 1, None]
        within = (position >= first) & (position < end)
        inside = inside & within.view(-1, *(side if d == dimension else 1 for d in range(len(sides))))
    return inside


def _weights_of_pixels(draws: MixDraws, sides: tuple[int, int]) -> Tensor:
    """Return the weights ``(B, k, H, W)`` of the labels of each pixel."""
    box = cast(Tensor, draws.box)
    inside = _inside(box, sides)[:, None]
    own = torch.cat([~inside, inside], dim=1).to(draws.weights.dtype)
    return torch.where(_pasted(box).view(-1, 1, 1, 1), own, draws.weights[:, :, None, None])


def with_other_class(draws: MixDraws, samples: Samples) -> MixDraws:
    """Replace each partner by the first sample from its place on, cyclic in the global batch, whose label differs.

    A sample whose label all samples have is left clean. Several tags are one label: their set.

    Raises:
        InputError: there is a label for each pixel.
    """
    labels, count = samples.labels, samples.total
    if labels.ndim > 2:
        raise InputError("mixup.partner=other_class: needs a label for each sample, not for each pixel; set any")
    places = torch.arange(count, device=draws.partners.device)
    cycles = (draws.partners[:, 1:, None] + places) % count
    differs = samples.labels_at(places)[cycles] != labels[:, None, None]
    if labels.ndim == 2:
        differs = differs.any(-1)
    first = differs.to(torch.uint8).argmax(-1, keepdim=True)
    partners = torch.cat([draws.partners[:, :1], cycles.gather(-1, first)[..., 0]], dim=1)
    found = differs.any(-1)[:, 0]  # all cycles have the same samples
    clean = torch.zeros_like(draws.weights)
    clean[:, 0] = 1
    weights = torch.where(found[:, None], draws.weights, clean)
    box = None if draws.box is None else draws.box * found[:, None]
    return MixDraws(partners, weights, draws.mixed & found, box)
