"""The base of all data modules: held-out validation images, and loaders of prepared data."""

from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from stkd_lightning.data.arrays import AnySplit
from stkd_lightning.data.augment import Augmentation, CropAndFlip
from stkd_lightning.data.batches import Batches, Normalize, samples_of
from stkd_lightning.data.holdout import TrainingParts, divide, spread
from stkd_lightning.data.loader import EvalLoader, TrainLoader
from stkd_lightning.data.picture_split import FileSplit
from stkd_lightning.data.prepared_module import PreparedDataModule
from stkd_lightning.data.resident import placed
from stkd_lightning.data.sampling import checked, order_of
from stkd_lightning.data.transforms import Augment, augmentation_of
from stkd_lightning.data.unlabelled import chosen, without_labels
from stkd_lightning.tasks.base import Task
from stkd_lightning.tasks.classification import Classification
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.batch_rows import batch_rows
from stkd_lightning.utilities.choices import Sampler
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.paths import cache_root
from stkd_lightning.utilities.random import generator


class ArrayDataModule(PreparedDataModule):
    """Base of the data modules: images of one size, prepared once as memory-mapped arrays.

    Args:
        data_dir: folder of the official folders.
        batch_size: samples of a training batch over all ranks.
        evaluation_batch_size: samples of a batch in evaluations on each rank; ``None``: the batch size, at least 256.
        validation_fraction: share in [0, 1) of the training images that is held out if the data set has no validation
            split; 0 trains on all images.
        split_seed: seed of the held-out images; it differs from ``seed`` so that runs of several seeds share one
            validation set.
        train_fraction: share in (0, 1] of each training class, without the held-out images, that is trained on; at
            least one image of a class.
        train_seed: seed of that share; ``None``: ``seed``.
        unlabeled_ratio: unlabelled images that join each batch, >= 0 times ``batch_size``. They are training images
            without a label, where the data have some, else those that ``train_fraction`` leaves, without their labels.
            An epoch is one pass over the labelled images.
        seed: of order and augmentation.
        padding: pixels of the random shift; ``None``: an eighth of the image's shorter side.
        flip: mirror half of the training images.
        augment: random transforms of training images; ``None``: only the shift and the flip.
        cache_dir: folder of the cache with the prepared arrays; see ``cache_root``.
        resident: ``True``: hold whole splits on the training device and index batches there; ``False``: worker
            processes make the same batches; ``"auto"``: workers only for a split that does not fit.
        workers: number of worker processes; ``None``: one for each core of the rank, at most 8.
        sampler: ``"shuffled"``: each training image once an epoch; ``"class_uniform"`` and ``"superclass_uniform"``:
            equally many images of some classes or superclasses in each batch (``sampling.uniform``).
        sampler_groups: number of groups in a batch; ``None``: as many as leave 4 images for each, but at least 2.

    Raises:
        InputError: an argument outside its range; during preparation, missing or damaged data; in
            ``train_dataloader``, a sampler that does not fit the data or the batch size, or no unlabelled images.
    """

    def __init__(
        self,
        data_dir: str | Path = "data",
        *,
        batch_size: int = 64,
        evaluation_batch_size: int | None = None,
        validation_fraction: float = 0.1,
        split_seed: int = 0,
        train_fraction: float = 1.0,
        train_seed: int | None = None,
        unlabeled_ratio: float = 0.0,
        seed: int = 0,
        padding: int | None = None,
        flip: bool = True,
        augment: Augment | None = None,
        cache_dir: str | Path | None = None,
        resident: bool | Literal["auto"] = "auto",
        workers: int | None = None,
        sampler: Sampler = "shuffled",
        sampler_groups: int | None = None,
    ) -> None:
        super().__init__()
        self.data_dir = Path(data_dir).expanduser()
        self.batch_size = validation.whole("dataset.batch_size", batch_size, minimum=1)
        self._evaluation_size = validation.optional_whole(
            "dataset.evaluation_batch_size", evaluation_batch_size, minimum=1
        )
        self.validation_fraction = validation.unit_interval("dataset.validation_fraction", validation_fraction)
        if validation_fraction == 1:
            raise InputError("dataset.validation_fraction=1: leaves nothing to train on; 0.1 is usual")
        self.split_seed = validation.whole("dataset.split_seed", split_seed)
        self.seed = validation.whole("seed", seed)
        self.train_fraction = validation.share("dataset.train_fraction", train_fraction)
        self.train_seed = self.seed if train_seed is None else validation.whole("dataset.train_seed", train_seed)
        self.unlabeled_ratio = validation.non_negative("dataset.unlabeled_ratio", unlabeled_ratio)
        if unlabeled_ratio and self.batch_rows == self.batch_size:
            raise InputError(
                f"dataset.unlabeled_ratio={unlabeled_ratio}: is no image of a batch of {batch_size}; the nearest is "
                f"{1 / batch_size:.3g}"
            )
        self.padding = validation.optional_whole("dataset.padding", padding)
        self.flip, self.augment = flip, augment
        self.resident = validation.automatic("dataset.resident", resident)
        self.workers = validation.optional_whole("dataset.workers", workers, minimum=1)
        self.sampler, self.sampler_groups = checked(sampler, sampler_groups)
        self._placed: dict[str, tuple[torch.device, AnySplit, int]] = {}
        self.cache = cache_root(cache_dir) / "data"

    @property
    def task(self) -> Task:
        """The task that the data are for."""
        return Classification(unlabelled=self.unlabeled_ratio > 0)

    @property
    def image_counts(self) -> dict[str, int]:
        """Number of images by the use of a split: ``validation`` and ``test``."""
        splits = self.arrays.splits
        validation = splits["val"].samples if "val" in splits else len(self._train_and_held_out[1])
        return {"validation": validation, "test": splits["test"].samples}

    @property
    def has_validation(self) -> bool:
        """True if the data set has validation images, from which a student is selected."""
        return "val" in self.arrays.splits or self.validation_fraction > 0

    @property
    def batch_rows(self) -> int:
        """Number of labelled and unlabelled images in a training batch over all ranks."""
        return batch_rows(self.batch_size, self.unlabeled_ratio)

    @cached_property
    def _train_and_held_out(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self._training_parts.trained, self._training_parts.held_out

    @cached_property
    def _training_parts(self) -> TrainingParts:
        return divide(
            self._sample_classes(),
            0.0 if "val" in self.arrays.splits else self.validation_fraction,
            self.split_seed,
            self.train_fraction,
            self.train_seed,
        )

    def _sample_classes(self) -> NDArray[np.int64]:
        """Return the classes of the training images ``(N,)``, of each of which a share is held out."""
        return self.arrays.splits["train"].labels.numpy()

    @property
    def normalize(self) -> Normalize:
        """From the values of prepared samples to those that networks see."""
        return Normalize(self.mean, self.std)

    @property
    def augmentation(self) -> Augmentation:
        """The augmentation of training images."""
        padding = min(self.input_shape[1:]) // 8 if self.padding is None else self.padding
        height, width = self.input_shape[1:]
        return augmentation_of(self.augment, CropAndFlip(padding, self.flip), (height, width), self.mean)

    def _placed_split(self, name: str) -> tuple[AnySplit, int]:
        """Return a split on the training device if it fits, and the number of processes that make its batches."""
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        if name not in self._placed or self._placed[name][0] != device:
            batched = name != "train" or not self.augmentation.per_image
            split = self.arrays.splits[name]
            self._placed[name] = device, *placed(name, split, device, self.resident, self.workers, batched)
        _, split, workers = self._placed[name]
        return split, workers

    def train_dataloader(self) -> TrainLoader:
        """Return augmented training batches."""
        indices = self._train_and_held_out[0]
        order = order_of(self.sampler, self.sampler_groups, self.arrays, indices, batch_size=self.batch_size)
        split, workers = self._placed_split("train")
        count = self.batch_rows - self.batch_size
        unlabelled = None
        if count:
            unlabelled = chosen(self._training_parts.unlabelled, count, self.seed, self.unlabeled_ratio, self.task)
            split = without_labels(split, unlabelled.indices)
        return TrainLoader(
            split,
            indices,
            order=order,
            batch_size=self.batch_size,
            normalize=self.normalize,
            augmentation=self.augmentation,
            seed=self.seed,
            workers=workers,
            check=self.arrays.check_unchanged,
            unlabelled=unlabelled,
        )

    def _evaluate(self, name: str, indices: NDArray[np.int64] | None = None) -> EvalLoader:
        split, workers = self._placed_split(name)
        return EvalLoader(
            split,
            np.arange(split.samples) if indices is None else indices,
            batch_size=self._evaluation_batch_size,
            normalize=self.normalize,
            workers=workers,
        )

    @property
    def _evaluation_batch_size(self) -> int:
        return self._evaluation_size or max(self.batch_size, 256)

    @property
    def validation_split(self) -> str:
        """Name of the split that holds the validation images."""
        return "val" if "val" in self.arrays.splits else "train"

    @property
    def sample_split(self) -> str:
        """Name of the split of ``sample``."""
        return self.validation_split if self.has_validation else "test"

    def file_name(self, split: str, index: int) -> str:
        """Return the name of an image's file below ``data_dir``, or its path elsewhere; ``""`` without a file.

        Args:
            split: name of a split.
            index: position in the split.
        """
        images = self.arrays.splits[split]
        return images.name(index) if isinstance(images, FileSplit) else ""

    def val_dataloader(self) -> EvalLoader | list[EvalLoader]:
        """Return the validation images, without augmentation; an empty list if there are none."""
        if not self.has_validation:
            return []
        held_out = None if self.validation_split == "val" else self._train_and_held_out[1]
        return self._evaluate(self.validation_split, held_out)

    def test_dataloader(self) -> EvalLoader:
        """Return the test images, without augmentation."""
        return self._evaluate("test")

    def sample(self, size: int) -> Batches:
        """Return up to ``size`` random validation images, or test images if there are none; always the same images."""
        name = self.sample_split
        split, _ = self._placed_split(name)
        device = split.inputs.device
        held_out = self._train_and_held_out[1] if name == "train" else np.arange(split.samples)
        drawn = torch.from_numpy(generator(self.split_seed, "sample").permutation(held_out)[:size])
        batch_size = min(64, self._evaluation_batch_size)
        return samples_of(split, drawn.to(device), batch_size, self.normalize.to(device))

    def plain_train_dataloader(self) -> EvalLoader:
        """Return the training images without augmentation."""
        return self._evaluate("train", self._train_and_held_out[0])

    def calibration_dataloader(self, count: int) -> EvalLoader:
        """Return training images without augmentation, evenly spread over the classes; always the same images.

        Args:
            count: of the images; fewer if the training has fewer.
        """
        indices = self._train_and_held_out[0]
        return self._evaluate("train", indices[spread(self._sample_classes()[indices], count)])
