"""The base of data modules for segmentation: images of any sides with masks, prepared once."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from stkd_lightning.data.arrays import MaskedSplit, RawData, RawMasks
from stkd_lightning.data.augment import Augmentation
from stkd_lightning.data.mask_augment import MaskAugmentation
from stkd_lightning.data.mask_resize import resized
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.data.transforms import check_no_augment
from stkd_lightning.tasks.segmentation import IGNORED, Segmentation
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.distributed import world
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.list_validation import class_weights as class_weights_of
from stkd_lightning.utilities.list_validation import optional_sides, resize_factor, scale_range
from stkd_lightning.utilities.random import generator


class MaskDataModule(ArrayDataModule):
    """Base of the data modules whose images have masks; evaluation sees whole images.

    Args:
        data_dir: as in ``ArrayDataModule``.
        batch_size: samples of a batch over all ranks, in training and in evaluation.
        crop: height and width of training samples; ``None``: those of the images, which need equal sides then.
        scale: smallest and largest factor of an image's sides in training.
        colour: largest change of brightness, contrast and saturation in training, in [0, 1).
        class_weights: weights of the classes in the cross-entropy with the label: a list, or ``"balanced"``: the median
            of the classes' frequencies divided by a class's frequency (Eigen and Fergus 2015, arXiv:1411.4734, Sec.
            6.3.2); ``None``: all are equal.
        window: height and width of the windows in which larger images are evaluated; ``None``: images as a whole.
        train_images: number of training images, drawn by ``split_seed``; ``None``: all.
        resize: factor in (0, 1] of the sides of all images, which are resized once, before training.
        options: those of ``ArrayDataModule``.

    Raises:
        InputError: an argument outside its range; images of unequal sides without a crop; fewer training images.
    """

    def __init__(
        self,
        data_dir: str | Path = "data",
        *,
        batch_size: int = 8,
        crop: Sequence[int] | None = None,
        scale: Sequence[float] = (1.0, 1.0),
        colour: float = 0.0,
        class_weights: Sequence[float] | Literal["balanced"] | None = None,
        window: Sequence[int] | None = None,
        train_images: int | None = None,
        resize: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(data_dir, batch_size=batch_size, **options)
        self.crop = optional_sides("dataset.crop", crop)
        self.window = optional_sides("dataset.window", window)
        self.scale = scale_range("dataset.scale", scale)
        self.colour = validation.unit_interval("dataset.colour", colour)
        if self.colour == 1:
            raise InputError("dataset.colour=1: must be below 1; 0.5 is strong")
        self.weights = class_weights_of("dataset.class_weights", class_weights)
        self.resize = resize_factor("dataset.resize", resize)
        self.train_images = validation.optional_whole("dataset.train_images", train_images, minimum=1)
        check_no_augment(self.augment, "images with masks", "dataset.scale and dataset.colour")
        if self.train_fraction != 1:
            raise InputError("dataset.train_fraction: images with masks have no single class; set dataset.train_images")
        if self.sampler != "shuffled":
            raise InputError(f"dataset.sampler={self.sampler}: images with masks have no single class; set shuffled")

    def evaluation_options(self) -> list[object]:
        """Return the windows, and the training images, which are evaluated where there are none for validation."""
        options = {"window": self.window, "train_images": self.train_images}
        return [[name, value] for name, value in options.items() if value is not None]

    def options(self) -> dict[str, object]:
        """Return the factor of the sides, where there is one."""
        return {} if self.resize == 1 else {"resize": self.resize}

    def read_resized(self, folder: Path) -> RawData:
        """Read the official files, and resize images and masks."""
        raw = self.read(folder)
        if self.resize == 1:
            return raw
        splits = {name: resized(cast(RawMasks, split), self.resize) for name, split in raw.splits.items()}
        return raw._replace(splits=splits)

    @property
    def task(self) -> Segmentation:
        """Segmentation into the classes of the data."""
        return Segmentation(self.class_names, self._weights, self.window)

    @property
    def train_split(self) -> MaskedSplit:
        """The training images and masks, also those that are held out."""
        return cast(MaskedSplit, self.arrays.splits["train"])

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape ``(C, H, W)`` of a training sample."""
        sizes = self.train_split.sizes
        if self.crop is not None:
            return len(self.mean), *self.crop
        least, most = sizes.amin(0).tolist(), sizes.amax(0).tolist()
        if least != most:
            raise InputError(
                f"dataset.crop=null: the images of {self.name} have unequal sides, {least[0]} to {most[0]} high and "
                f"{least[1]} to {most[1]} wide; set dataset.crop=[{least[0]},{least[1]}]"
            )
        return len(self.mean), least[0], least[1]

    @property
    def augmentation(self) -> Augmentation:
        """The augmentation of training images and their masks."""
        return MaskAugmentation(self.input_shape[1:], self.mean, self.scale, self.flip, self.colour)

    @property
    def _evaluation_batch_size(self) -> int:
        return self._evaluation_size or max(1, self.batch_size // world()[1])

    def _sample_classes(self) -> NDArray[np.int64]:
        return np.zeros(self.train_split.samples, dtype=np.int64)

    @cached_property
    def _train_and_held_out(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        kept, held_out = super()._train_and_held_out
        if self.train_images is None:
            return kept, held_out
        if self.train_images > len(kept):
            raise InputError(f"dataset.train_images={self.train_images}: there are only {len(kept)} training images")
        drawn = generator(self.split_seed, "train_images").permutation(kept)[: self.train_images]
        return np.sort(drawn), held_out

    @cached_property
    def _weights(self) -> tuple[float, ...] | None:
        if self.weights == "balanced":
            return median_frequency_weights(self.train_split, self._train_and_held_out[0], self.num_classes)
        if self.weights is not None and len(self.weights) != self.num_classes:
            raise InputError(
                f"dataset.class_weights: has {len(self.weights)} weights, but {self.name} has {self.num_classes} "
                "classes"
            )
        return self.weights


def median_frequency_weights(split: MaskedSplit, indices: NDArray[np.int64], num_classes: int) -> tuple[float, ...]:
    """Return the median of the classes' frequencies divided by a class's frequency; 1 for a class without a pixel.

    The frequency of a class is its share of the pixels of the images in which it occurs (Eigen and Fergus 2015,
    arXiv:1411.4734, Sec. 6.3.2).
    """
    pixels, of_images = torch.zeros(num_classes), torch.zeros(num_classes)
    for i in indices.tolist():
        counts = split.mask(i).flatten().bincount(minlength=IGNORED + 1)[:num_classes].float()
        pixels += counts
        of_images += counts.sum() * (counts > 0)
    frequencies = pixels / of_images
    weights = frequencies[pixels > 0].median() / frequencies
    return tuple(weights.where(pixels > 0, 1.0).tolist())
