"""Clips of spoken digits that overlap, for a first tagging of real sound.

Recordings: the Free Spoken Digit Dataset of Jackson et al. (github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA
4.0): 3,000 wav files of 8 kHz, ``recordings/{digit}_{speaker}_{take}.wav``. The clips are ours.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stkd_lightning.data.arrays import RawData
from stkd_lightning.data.audio_files import read_audio
from stkd_lightning.data.clip_module import ClipDataModule
from stkd_lightning.data.drawn_clips import drawn_clips
from stkd_lightning.data.threads import read_in_order
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import InputError

SECONDS = 2.5  # of a clip
DIGITS = (1, 4)  # different digits in a clip, fewest and most
GAIN = (0.15, 0.6)  # largest value of a digit's samples
NOISE = (0.003, 0.03)  # standard deviation of the noise
SPEAKERS = {"train": ("jackson", "nicolas", "theo"), "val": ("yweweler",), "test": ("george", "lucas")}
NAME = re.compile(r"([0-9])_([a-z]+)_([0-9]+)\.wav")
DRAWING = 1  # raised when a change of the code changes the clips

Recordings = Mapping[int, list[NDArray[np.int16]]]  # by digit


class DigitsTaggingDataModule(ClipDataModule):
    """Clips of 2.5 s with 1 to 4 different digits and pink noise; 10 tags, the digits that are heard.

    No speaker is in two splits.

    Args:
        data_dir: folder that holds ``fsdd/recordings`` or ``free-spoken-digit-dataset/recordings``.
        sample_rate: Hz; that of the recordings is 8000.
        clips: number of training clips.
        val_clips: number of validation clips.
        test_clips: number of test clips.
        clip_seed: seed of the clips; runs of several seeds share them.
        options: those of ``ClipDataModule``.

    Raises:
        InputError: recordings that are missing or damaged.
    """

    name = "digits_tagging"

    def __init__(
        self,
        data_dir: str | Path = "data",
        *,
        sample_rate: int = 8000,
        clips: int = 2000,
        val_clips: int = 300,
        test_clips: int = 600,
        clip_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(data_dir, sample_rate=sample_rate, **options)
        counts = {"clips": clips, "val_clips": val_clips, "test_clips": test_clips}
        sizes = [validation.whole(f"dataset.{name}", count, minimum=1) for name, count in counts.items()]
        self.clips = dict(zip(SPEAKERS, sizes, strict=True))
        self.clip_seed = validation.whole("dataset.clip_seed", clip_seed)

    def options(self) -> dict[str, object]:
        """Return what the clips are drawn from."""
        return super().options() | {"clips": self.clips, "clip_seed": self.clip_seed, "drawing": DRAWING}

    def locate(self) -> Path:
        """Return the folder of the recordings.

        Raises:
            InputError: there is none.
        """
        folders = [self.data_dir / name / "recordings" for name in ("fsdd", "free-spoken-digit-dataset")]
        if found := [folder for folder in folders if folder.is_dir()]:
            return found[0]
        raise InputError(
            f"dataset.data_dir={self.data_dir}: holds no fsdd/recordings; clone "
            "github.com/Jakobovski/free-spoken-digit-dataset into it"
        )

    def stamps(self, folder: Path) -> list[Path]:
        """Return the recordings."""
        return sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))

    def read(self, folder: Path) -> RawData:
        """Read the recordings, and make the clips.

        Raises:
            InputError: a speaker without a digit, or a damaged recording.
        """
        recordings = _read_recordings(self.stamps(folder), folder, self.sample_rate)
        length = round(SECONDS * self.sample_rate)
        splits = {
            split: drawn_clips(count, 10, DIGITS, [self.clip_seed, position], partial(_clip, recordings[split], length))
            for position, (split, count) in enumerate(self.clips.items())
        }
        return RawData(splits, list("0123456789"), sample_rate=self.sample_rate)


def _read_recordings(paths: list[Path], folder: Path, rate: int) -> dict[str, Recordings]:
    """Return the recordings of each split."""
    split_of = {speaker: split for split, speakers in SPEAKERS.items() for speaker in speakers}
    named = [(path, match) for path in paths if (match := NAME.fullmatch(path.name)) and match[2] in split_of]
    recordings: dict[str, dict[int, list[NDArray[np.int16]]]] = {split: defaultdict(list) for split in SPEAKERS}
    present = {(match[2], int(match[1])) for _, match in named}
    if missing := sorted({(speaker, digit) for speaker in split_of for digit in range(10)} - present):
        speaker, digit = missing[0]
        raise InputError(f"{folder}: holds no recording {digit}_{speaker}_*.wav; clone the repository again")
    samples = read_in_order(
        lambda item: read_audio(item[0], rate), named, chunk=256, description="recordings", unit="clip"
    )
    for waveform, (_, match) in zip(samples, named, strict=True):
        recordings[split_of[match[2]]][int(match[1])].append(waveform)
    return dict(recordings)


def _clip(
    recordings: Recordings, length: int, digits: Sequence[int], random: np.random.Generator
) -> NDArray[np.float64]:
    """Add up a recording of each digit, at any place and with any gain, and pink noise."""
    clip = random.uniform(*NOISE) * _pink(length, random)
    for takes in (recordings[digit] for digit in digits):
        spoken = takes[random.integers(len(takes))][:length].astype(np.float64)
        first = random.integers(length - len(spoken) + 1)
        clip[first : first + len(spoken)] += random.uniform(*GAIN) * spoken / max(1.0, np.abs(spoken).max())
    return clip


def _pink(length: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return noise ``(length,)`` of standard deviation 1 whose power falls as 1 / f."""
    spectrum = np.fft.rfft(random.standard_normal(length))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    noise: NDArray[np.float64] = np.fft.irfft(spectrum, n=length)
    return noise / noise.std()
