"""The input that a network expects, and the adapter from the data's images to it."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.models.logits import logits_of
from stkd_lightning.utilities.image_size import Size, sides, size_of

INTERPOLATIONS = ("bilinear", "bicubic")
LARGEST = 1024  # pixels of a side that a file may ask for; larger images could fill the memory


@dataclass(frozen=True)
class InputSpec:
    """The input that a network expects; ``None`` takes that of the data.

    Attributes:
        size: side in pixels, or height and width.
        mean: of each channel, in units of 1 (black 0, white 1).
        std: of each channel, in the same units.
        interpolation: way in which images are resized to the size, ``"bicubic"`` or, by default, ``"bilinear"``.
    """

    size: Size | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    interpolation: str | None = None

    def overridden(
        self,
        size: Size | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        interpolation: str | None = None,
    ) -> "InputSpec":
        """Return the spec with its values replaced by the given values."""
        return replace(
            self,
            size=self.size if size is None else size,
            mean=self.mean if mean is None else mean,
            std=self.std if std is None else std,
            interpolation=self.interpolation if interpolation is None else interpolation,
        )


def is_input(plain: Any, image_size: Size) -> bool:
    """Return whether plain values of a file are those of an ``InputSpec``, of no surprising size.

    Args:
        plain: what the file holds.
        image_size: of the data; larger networks' images have at most ``LARGEST`` pixels a side.
    """
    if not isinstance(plain, Mapping) or not set(plain) <= {"size", "mean", "std", "interpolation"}:
        return False
    size, mean, std = (plain.get(name) for name in ("size", "mean", "std"))
    both = isinstance(size, list | tuple) and len(size) == 2
    largest = max(LARGEST, *sides(image_size))
    return (
        (size is None or all(is_side(side, largest) for side in (size if both else [size])))
        and plain.get("interpolation") in (None, *INTERPOLATIONS)
        and (mean is None or is_channels(mean))
        and (std is None or (is_channels(std) and min(std) > 0))
    )


def is_side(value: Any, largest: int) -> bool:
    """Return whether a value is a number of pixels from 1 to the largest."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= largest


def is_channels(value: Any) -> bool:
    """Return whether a value is a list of a finite number for each of three channels."""
    return isinstance(value, list | tuple) and len(value) == 3 and all(_is_finite(v) for v in value)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def declare(network: nn.Module, spec: InputSpec) -> nn.Module:
    """Store the expected input on a network, and return the network."""
    vars(network)["input_spec"] = spec
    return network


def declared(network: nn.Module) -> InputSpec:
    """Return the expected input of a network; by default that of the data."""
    return vars(network).get("input_spec", InputSpec())


class AdaptedInput(nn.Module):
    """A network with a resize and an exact change of normalization before it.

    Images normalized by the data's mean and std become images normalized by the network's. Both steps are affine, so
    virtual samples stay the same convex combinations.

    Args:
        network: ``(B, C, H, W)`` of the expected size to logits.
        spec: the expected input.
        mean: mean of each channel of the data.
        std: standard deviation of each channel of the data.
        dense: resize the logits ``(B, K, h, w)`` to the size of the images.
    """

    INNER = "network"  # the path of the network itself

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: nn.Module,
        spec: InputSpec,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        dense: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.dense = network, dense
        self.interpolation = spec.interpolation or INTERPOLATIONS[0]
        self.size = None if spec.size is None else size_of(*sides(spec.size))  # plain, also where Hydra gave a list
        data_mean, data_std = torch.tensor(mean).double(), torch.tensor(std).double()
        network_mean = data_mean if spec.mean is None else torch.tensor(spec.mean).double()
        network_std = data_std if spec.std is None else torch.tensor(spec.std).double()
        self.normalization = network_mean.tolist(), network_std.tolist()
        scale, shift = data_std / network_std, (data_mean - network_mean) / network_std
        self.register_buffer("scale", scale.float().view(-1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.float().view(-1, 1, 1), persistent=False)

    def describe(self) -> str:
        """Return size and normalization in one line."""
        mean, std = self.normalization
        # Without the default, which belongs to no digest of an earlier teacher.
        way = "" if self.interpolation == INTERPOLATIONS[0] else f"{self.interpolation}, "
        size = "" if self.size is None else f"{self.size} pixels, {way}"
        return f"{size}mean {[round(v, 4) for v in mean]}, std {[round(v, 4) for v in std]}"

    def extra_repr(self) -> str:
        """Return the description, for ``repr``."""
        return self.describe()

    def before(self, part: nn.Module) -> "AdaptedInput":
        """Return the same adaptation before a part of the network; the part's output is not resized."""
        adapted = copy.deepcopy(self, {id(self.network): part})
        adapted.dense = False
        return adapted

    def forward(self, images: Tensor) -> Tensor:
        """Return the network's logits for images ``(B, C, H, W)`` with the data's normalization."""
        size = images.shape[-2:]
        images = images * self.scale + self.shift
        if self.size is not None and size != sides(self.size):
            images = F.interpolate(images, sides(self.size), mode=self.interpolation, antialias=True)
        logits = logits_of(self.network(images))
        # Without a condition: logits of equal size are copied, and exported programs take images of any size.
        return F.interpolate(logits, size, mode="bilinear", align_corners=False) if self.dense else logits


def for_data(
    network: nn.Module,
    spec: InputSpec,
    *,
    image_size: Size,
    mean: Sequence[float],
    std: Sequence[float],
    dense: bool = False,
) -> nn.Module:
    """Return the network itself if its input fits the data, else an ``AdaptedInput`` of it.

    Args:
        network: any classifier or segmentation network.
        spec: its expected input.
        image_size: side of the data's images in pixels, or height and width.
        mean: mean of each channel of the data.
        std: standard deviation of each channel of the data.
        dense: the logits are ``(B, K, h, w)``; they are resized to the images, which may then have other sizes, too.
    """
    same_size = spec.size is None or (sides(spec.size) == sides(image_size) and not dense)
    same_normalization = tuple(spec.mean or mean) == tuple(mean) and tuple(spec.std or std) == tuple(std)
    return network if same_size and same_normalization else AdaptedInput(network, spec, mean, std, dense=dense)
