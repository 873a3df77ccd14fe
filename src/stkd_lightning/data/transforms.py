"""Random transforms of single training images, by torchvision."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import RandomResizedCrop, v2

from stkd_lightning.data.arrays import Split
from stkd_lightning.data.augment import Augmentation, CropAndFlip
from stkd_lightning.data.decode import Box
from stkd_lightning.utilities import list_validation, validation
from stkd_lightning.utilities.choices import POLICIES, Policy
from stkd_lightning.utilities.errors import InputError, unknown
from stkd_lightning.utilities.random import sample_bits


@dataclass(frozen=True)
class Augment:
    """Settings of the random transforms of training images.

    Attributes:
        plain: neither shift nor mirror images.
        crop_scale: smallest and largest share of an image's area that a random crop has, in (0, 1]; the crop is resized
            to the image size (Szegedy et al. 2014, arXiv:1409.4842, Sec. 6). ``None``: shifted by some pixels.
        crop_ratio: smallest and largest width / height of a random crop.
        policy: ``"trivial"``: TrivialAugment with wide ranges (Müller and Hutter 2021, arXiv:2103.10158);
            ``"randaugment"`` (Cubuk et al. 2019, arXiv:1909.13719); ``None``.
        operations: number of operations of ``"randaugment"`` on an image.
        magnitude: their strength, in [0, 30].
        brightness: largest change of brightness, in [0, 1]; likewise ``contrast`` and ``saturation``.
        contrast: see ``brightness``.
        saturation: see ``brightness``.
        hue: largest turn of the hue, in [0, 0.5].
        erasing: chance that a box of the image gets the mean colour (Zhong et al. 2017, arXiv:1708.04896).

    Raises:
        InputError: a setting outside its range.
    """

    plain: bool = False
    crop_scale: tuple[float, float] | None = None
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    policy: Policy | None = None
    operations: int = 2
    magnitude: int = 9
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    erasing: float = 0.0

    def __post_init__(self) -> None:
        name = "dataset.augment"
        checked = {
            "plain": validation.switch(f"{name}.plain", self.plain),
            "crop_scale": list_validation.optional_shares(f"{name}.crop_scale", self.crop_scale),
            "crop_ratio": list_validation.scale_range(f"{name}.crop_ratio", self.crop_ratio),
            "operations": validation.whole(f"{name}.operations", self.operations, minimum=1, maximum=14),
            "magnitude": validation.whole(f"{name}.magnitude", self.magnitude, maximum=30),
            "hue": validation.half_interval(f"{name}.hue", self.hue),
        }
        for part in ("brightness", "contrast", "saturation", "erasing"):
            checked[part] = validation.unit_interval(f"{name}.{part}", getattr(self, part))
        if self.policy not in (None, *POLICIES):
            raise unknown(f"{name}.policy", str(self.policy), POLICIES)
        for part, value in checked.items():
            object.__setattr__(self, part, value)

    def transform(self, mean: Sequence[float], *, flip: bool) -> v2.Compose | None:
        """Return the transforms behind the crop, for images uint8; ``None`` if there are none.

        Args:
            mean: of each channel, in units of 1.
            flip: mirror half of the images as well.
        """
        jitter = (self.brightness, self.contrast, self.saturation, self.hue)
        levels = [float(round(255 * value)) for value in mean]
        steps = [
            v2.RandomHorizontalFlip() if flip else None,
            v2.TrivialAugmentWide() if self.policy == "trivial" else None,
            v2.RandAugment(self.operations, self.magnitude) if self.policy == "randaugment" else None,
            v2.ColorJitter(*jitter) if any(jitter) else None,
            v2.RandomErasing(self.erasing, value=levels) if self.erasing else None,
        ]
        chosen = [step for step in steps if step is not None]
        return v2.Compose(chosen) if chosen else None


class Pictures(Protocol):
    """A split whose images have any sizes, and from which parts are read."""

    def sides(self, i: int) -> tuple[int, int]:
        """Return height and width of an image."""

    def crop(self, i: int, box: Box, size: tuple[int, int]) -> Tensor:
        """Return a part of an image, resized: ``(C, *size)`` uint8."""


@dataclass(frozen=True)
class ResizedCrops:
    """Random crops of images of any sizes, resized to one size, and transforms of them; labels do not change.

    Attributes:
        size: height and width of the samples.
        settings: with ``crop_scale``.
        transform: of each image after its crop.
    """

    size: tuple[int, int]
    settings: Augment
    transform: v2.Compose | None
    per_image: ClassVar[bool] = True

    def draw(self, indices: NDArray[np.int64], *, seed: int, epoch: int) -> tuple[Tensor, ...]:
        """Return a seed for each sample."""
        return (sample_seeds(indices, seed, epoch),)

    def images(self, split: Pictures, indices: Tensor, draws: tuple[Tensor, ...]) -> Tensor:
        """Return crops uint8."""
        scale, ratio = self.settings.crop_scale, self.settings.crop_ratio
        assert scale is not None
        made = []
        with own_draws() as seeded:
            for i, seed in zip(indices.tolist(), draws[0].tolist(), strict=True):
                seeded(seed)
                extent = torch.empty(1, *split.sides(i), device="meta")
                image = split.crop(i, RandomResizedCrop.get_params(extent, list(scale), list(ratio)), self.size)
                made.append(image if self.transform is None else self.transform(image))
        return torch.stack(made)

    def labels(self, split: Split, indices: Tensor, draws: tuple[Tensor, ...]) -> Tensor:
        """Return the labels of the split."""
        return split.labels.index_select(0, indices)


@dataclass(frozen=True)
class ShiftedAndTransformed:
    """The augmentation of CIFAR, and transforms of its images; labels do not change.

    Attributes:
        shift: shifts and mirrors the images.
        transform: of each image after that.
    """

    shift: CropAndFlip
    transform: v2.Compose
    per_image: ClassVar[bool] = True

    def draw(self, indices: NDArray[np.int64], *, seed: int, epoch: int) -> tuple[Tensor, ...]:
        """Return a seed for each sample, and the draws of the shift."""
        return sample_seeds(indices, seed, epoch), *self.shift.draw(indices, seed=seed, epoch=epoch)

    def images(self, split: Split, indices: Tensor, draws: tuple[Tensor, ...]) -> Tensor:
        """Return transformed images uint8."""
        shifted, made = self.shift.images(split, indices, draws[1:]), []
        with own_draws() as seeded:
            for image, seed in zip(shifted, draws[0].tolist(), strict=True):
                seeded(seed)
                made.append(self.transform(image))
        return torch.stack(made)

    def labels(self, split: Split, indices: Tensor, draws: tuple[Tensor, ...]) -> Tensor:
        """Return the labels of the split."""
        return split.labels.index_select(0, indices)


def augmentation_of(
    settings: Augment | None, shift: CropAndFlip, size: tuple[int, int], mean: Sequence[float]
) -> Augmentation:
    """Return the augmentation of training images.

    Args:
        settings: ``None``: the shift alone.
        shift: shifts and mirrors the images.
        size: height and width of the samples.
        mean: of each channel, in units of 1.
    """
    if settings is None:
        return shift
    if settings.plain:
        shift = CropAndFlip(0, False)
    if settings.crop_scale is None:
        transform = settings.transform(mean, flip=False)
        return shift if transform is None else ShiftedAndTransformed(shift, transform)
    return ResizedCrops(size, settings, settings.transform(mean, flip=shift.flip))


def sample_seeds(indices: NDArray[np.int64], seed: int, epoch: int) -> Tensor:
    """Return a seed of torch's generator for each sample ``(N,)``, a function of (seed, epoch, index)."""
    return torch.from_numpy((sample_bits(seed, "transforms", epoch, indices) >> np.uint64(1)).astype(np.int64))


@contextmanager
def own_draws() -> Iterator[Any]:
    """Yield a function that seeds torch's generator of the CPU, from which torchvision draws; restore it afterwards.

    One thread computes, so that sums of an image are rounded alike with any number of threads.
    """
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(1)
        try:
            yield torch.default_generator.manual_seed
        finally:
            torch.set_num_threads(threads)


def check_no_augment(settings: Augment | None, data: str, others: str) -> None:
    """Refuse transforms of images for data that have an augmentation of their own.

    Args:
        settings: ``None`` if there are none.
        data: what the data are.
        others: the options that these data have.

    Raises:
        InputError: there are settings.
    """
    if settings is not None:
        raise InputError(f"augment: {data} have an augmentation of their own; leave it out and use {others}")
