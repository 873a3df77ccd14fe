"""The base of all data modules: prepared arrays, held-out validation images, and loaders."""

import os
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Literal

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray

from stkd_lightning.data.arrays import FORMAT, AnySplit, Arrays, MaskedSplit, RawData
from stkd_lightning.data.augment import Augmentation, CropAndFlip
from stkd_lightning.data.batches import Batches, Normalize, samples_of
from stkd_lightning.data.clip_arrays import ClipSplit
from stkd_lightning.data.holdout import TrainingParts, divide, spread
from stkd_lightning.data.loader import EvalLoader, TrainLoader
from stkd_lightning.data.picture_split import FileSplit, PictureSplit
from stkd_lightning.data.prepare import prepare
from stkd_lightning.data.resident import fits
from stkd_lightning.data.sampling import checked, order_of
from stkd_lightning.data.transforms import Augment, ResizedCrops, ShiftedAndTransformed
from stkd_lightning.data.unlabelled import Unlabelled
from stkd_lightning.tasks.base import Task
from stkd_lightning.tasks.classification import Classification
from stkd_lightning.tasks.types import UNLABELLED
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.batch_rows import batch_rows
from stkd_lightning.utilities.choices import OnError, Sampler
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.distributed import world
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.image_size import Size, size_of
from stkd_lightning.utilities.paths import cache_root, key_of
from stkd_lightning.utilities.random import generator


class ArrayDataModule(L.LightningDataModule):
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

    name: str  # short name for folders in the cache
    on_error: OnError | None = None  # what becomes of images that cannot be read; None: refused, without an option

    @property
    def task(self) -> Task:
        """The task that the data are for."""
        return Classification(unlabelled=self.unlabeled_ratio > 0)

    @abstractmethod
    def locate(self) -> Path:
        """Return the folder of the official files; download them if they are missing."""

    @abstractmethod
    def stamps(self, folder: Path) -> list[Path]:
        """Return the files and folders whose size or modification time changes with the data."""

    @abstractmethod
    def read(self, folder: Path) -> RawData:
        """Read the official files."""

    def read_resized(self, folder: Path) -> RawData:
        """Read the official files in the size in which they are prepared."""
        return self.read(folder)

    def options(self) -> dict[str, object]:
        """Return the options that change the prepared arrays."""
        return {}

    def evaluation_options(self) -> list[object]:
        """Return further options that change a network's score on the data."""
        return []

    @cached_property
    def arrays(self) -> Arrays:
        """The prepared data; the first access prepares them if they are not in the cache."""
        folder = self.locate()
        stats = [(os.path.relpath(p, folder), p.stat()) for p in self.stamps(folder)]  # a table may name any file
        stamp = [[p, s.st_size, s.st_mtime_ns] for p, s in stats]
        key = key_of([FORMAT, self.name, str(folder.resolve()), stamp, self.options()])
        return prepare(self.cache / f"{self.name}-{key}", lambda: self.read_resized(folder), on_error=self.on_error)

    def prepare_data(self) -> None:
        """Download and prepare missing data; Lightning calls this on one process of each machine."""
        self.arrays  # noqa: B018

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the labels."""
        return self.arrays.class_names

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.arrays.class_names)

    @property
    def superclasses(self) -> tuple[int, ...] | None:
        """Index of each class's superclass, in the order of the labels; ``None`` if the data set has none."""
        return self.arrays.superclasses

    @property
    def superclass_names(self) -> tuple[str, ...] | None:
        """Names of the superclasses, in the order of their indices."""
        return self.arrays.superclass_names

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel of the training images, in units of 1."""
        return self.arrays.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel of the training images, in units of 1."""
        return self.arrays.std

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of a training sample: ``(C, H, W)`` of an image."""
        train = self.arrays.splits["train"]
        if isinstance(train, PictureSplit | FileSplit):
            return 3, *train.view.size
        return tuple(train.inputs.shape[1:])

    @property
    def image_size(self) -> Size:
        """Side of square images in pixels; height and width of others."""
        height, width = self.input_shape[1:]
        return size_of(height, width)

    @property
    def evaluation_resize(self) -> tuple[int, int] | None:
        """Height and width that an image covers before its centre is cropped; ``None``: the image size."""
        return None

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

    def _unlabelled(self) -> Unlabelled | None:
        """Return the images that join each batch without a label; ``None`` if there are none.

        Raises:
            InputError: they are asked for, but there are none.
        """
        count, option = self.batch_rows - self.batch_size, f"dataset.unlabeled_ratio={self.unlabeled_ratio}"
        if not count:
            return None
        if not isinstance(self.task, Classification):
            raise InputError(f"{option}: needs data with a class for each image, not {self.task.name}; set 0")
        if not len(self._training_parts.unlabelled):
            raise InputError(
                f"{option}: there are no unlabelled images; set dataset.unlabeled_dir=FOLDER (image_folder, imagenet), "
                "or dataset.train_fraction below 1 for the images that it leaves"
            )
        return Unlabelled(self._training_parts.unlabelled, count, self.seed)

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
        shift = CropAndFlip(min(self.input_shape[1:]) // 8 if self.padding is None else self.padding, self.flip)
        if self.augment is None:
            return shift
        if self.augment.plain:
            shift = CropAndFlip(0, False)
        if self.augment.crop_scale is None:
            transform = self.augment.transform(self.mean, flip=False)
            return shift if transform is None else ShiftedAndTransformed(shift, transform)
        height, width = self.input_shape[1:]
        return ResizedCrops((height, width), self.augment, self.augment.transform(self.mean, flip=shift.flip))

    def _placed_split(self, name: str) -> tuple[AnySplit, int]:
        """Return a split on the training device if it fits, and the number of processes that make its batches."""
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        if name not in self._placed or self._placed[name][0] != device:
            split = self.arrays.splits[name]
            pictures = isinstance(split, PictureSplit | FileSplit)
            quick = not pictures and (name != "train" or not self.augmentation.per_image)
            automatic = self.resident == "auto"
            resident = fits(split, device) and quick if automatic else bool(self.resident)
            if not resident and automatic and quick:
                size = split.inputs.nbytes / 2**30
                print_rank_zero(
                    f"dataset: the {name} samples, {size:.1f} GiB, do not fit on {device}; worker processes read them"
                )
            on_device = resident and quick and device.type == "cuda"  # other images are made on the CPU, as by workers
            target = device if on_device else torch.device("cpu")
            self._placed[name] = device, split.to(target), 0 if resident else self._workers()
        _, split, workers = self._placed[name]
        return split, workers

    def _workers(self) -> int:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(8, max(1, cores // world()[1])) if self.workers is None else self.workers

    def train_dataloader(self) -> TrainLoader:
        """Return augmented training batches."""
        indices = self._train_and_held_out[0]
        order = order_of(self.sampler, self.sampler_groups, self.arrays, indices, batch_size=self.batch_size)
        split, workers = self._placed_split("train")
        unlabelled = self._unlabelled()
        if unlabelled is not None and not isinstance(split, MaskedSplit | ClipSplit):
            hidden = torch.from_numpy(unlabelled.indices).to(split.labels.device)
            split = split._replace(labels=split.labels.index_fill(0, hidden, UNLABELLED))
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
