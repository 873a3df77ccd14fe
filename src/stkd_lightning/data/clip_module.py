"""The base of data modules for tagging of sound: clips with tags, prepared once."""

from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from stkd_lightning.data.audio_files import LEVELS, RATES
from stkd_lightning.data.augment import Augmentation
from stkd_lightning.data.batches import Normalize
from stkd_lightning.data.clip_arrays import ClipSplit
from stkd_lightning.data.clip_augment import ClipAugmentation
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.data.transforms import check_no_augment
from stkd_lightning.tasks.tagging import Tagging
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import InputError

EVALUATED = 64  # whole clips in a batch of an evaluation, at least, if they are not long
LARGEST_EVALUATED = 2**25  # samples of a batch of an evaluation, 35 minutes at 16 kHz
LARGEST_BATCH = 2**27  # samples of a training batch, whose places alone take a GiB
READING = 1  # raised when a change of the code reads files otherwise


class ClipDataModule(ArrayDataModule):
    """Base of the data modules of sound clips with tags; evaluation hears whole clips.

    Args:
        data_dir: as in ``ArrayDataModule``.
        batch_size: clips of a training batch over all ranks.
        sample_rate: Hz; recordings of another rate are resampled once.
        length: seconds of a training clip; of longer clips a part is drawn, shorter ones are padded; ``None``: those of
            the longest training clip.
        time_shift: largest turn in time in seconds.
        time_masks: number of silent parts; with ``band_masks`` SpecAugment, see ``ClipAugmentation``.
        time_mask: largest silent part, as a share in [0, 1] of the length.
        band_masks: number of frequency bands that are removed.
        band_mask: widest band, as a share in [0, 1] of the mel scale.
        options: those of ``ArrayDataModule``.

    Raises:
        InputError: an argument outside its range.
    """

    def __init__(
        self,
        data_dir: str | Path = "data",
        *,
        batch_size: int = 32,
        sample_rate: int = 16000,
        length: float | None = None,
        time_shift: float = 0.0,
        time_masks: int = 0,
        time_mask: float = 0.1,
        band_masks: int = 0,
        band_mask: float = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(data_dir, batch_size=batch_size, **options)
        self.sample_rate = validation.whole("dataset.sample_rate", sample_rate, minimum=RATES[0], maximum=RATES[1])
        self.length = None if length is None else validation.positive("dataset.length", length)
        self.time_shift = validation.non_negative("dataset.time_shift", time_shift)
        self.time_masks = validation.whole("dataset.time_masks", time_masks)
        self.time_mask = validation.unit_interval("dataset.time_mask", time_mask)
        self.band_masks = validation.whole("dataset.band_masks", band_masks)
        self.band_mask = validation.unit_interval("dataset.band_mask", band_mask)
        check_no_augment(self.augment, "clips", "dataset.time_shift and dataset.time_masks")
        if self.sampler != "shuffled":
            raise InputError(f"dataset.sampler={self.sampler}: clips have no single class; set shuffled")

    def options(self) -> dict[str, object]:
        """Return the rate of the waveforms."""
        return {"sample_rate": self.sample_rate, "reading": READING}

    @property
    def task(self) -> Tagging:
        """Tagging with the tags of the data."""
        return Tagging.of(self.class_names, self.train_split.labels)

    @property
    def train_split(self) -> ClipSplit:
        """The training clips, also those that are held out."""
        return cast(ClipSplit, self.arrays.splits["train"])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape ``(T,)`` of a training clip.

        Raises:
            InputError: a batch of such clips does not fit into the memory.
        """
        length = self.train_split.longest if self.length is None else max(1, round(self.length * self.sample_rate))
        if length * self.batch_size > LARGEST_BATCH:
            nearest = max(1, LARGEST_BATCH // self.batch_size // self.sample_rate)
            raise InputError(
                f"dataset.length={self.length or 'null'}: a batch of {self.batch_size} clips of "
                f"{length / self.sample_rate:.0f} s does not fit into the memory; set dataset.length={nearest} or "
                "less, or a smaller dataset.batch_size"
            )
        return (length,)

    @property
    def padded(self) -> bool:
        """True if some clips are shorter than others, so that a network gets ``(B, 2, T)``."""
        (length,) = self.input_shape
        splits = cast(dict[str, ClipSplit], self.arrays.splits)
        return self.train_split.shortest < length or any(s.shortest < s.longest for s in splits.values())

    @property
    def image_size(self) -> int:
        """Samples of a training clip."""
        return self.input_shape[0]

    @property
    def normalize(self) -> Normalize:
        """From 16-bit samples to [-1, 1)."""
        return Normalize.by(1 / LEVELS)

    @property
    def augmentation(self) -> Augmentation:
        """The augmentation of training clips."""
        return ClipAugmentation(
            self.input_shape[0],
            round(self.time_shift * self.sample_rate),
            self.time_masks,
            self.time_mask,
            self.band_masks,
            self.band_mask,
            self.sample_rate,
        )

    @property
    def _evaluation_batch_size(self) -> int:
        splits = cast(dict[str, ClipSplit], self.arrays.splits)
        longest = max(split.longest for split in splits.values())
        return max(1, min(self._evaluation_size or max(self.batch_size, EVALUATED), LARGEST_EVALUATED // longest))

    def _sample_classes(self) -> NDArray[np.int64]:
        return np.zeros(self.train_split.samples, dtype=np.int64)
