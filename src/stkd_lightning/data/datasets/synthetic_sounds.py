"""Synthesized sounds that overlap in short clips, for a first tagging without a download."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stkd_lightning.data.arrays import RawData
from stkd_lightning.data.clip_module import ClipDataModule
from stkd_lightning.data.drawn_clips import drawn_clips
from stkd_lightning.utilities import validation

SECONDS = 1.0  # of a clip
EVENT = (0.3, 0.8)  # seconds of a sound
SOUNDS = (1, 3)  # different sounds in a clip, fewest and most
GAIN = (0.05, 0.3)  # largest value of a sound
NOISE = (0.01, 0.06)  # standard deviation of the background
DRAWING = 1  # raised when a change of the code changes the clips

Wave = NDArray[np.float64]
Draw = np.random.Generator


def _sine(time: Wave, hertz: Wave | float) -> Wave:
    """Return a sine of a constant or changing frequency."""
    step = time[1] - time[0]
    wave: Wave = np.sin(2 * np.pi * np.cumsum(np.broadcast_to(hertz, time.shape)) * step)
    return wave


def _low_tone(time: Wave, draw: Draw) -> Wave:
    return _sine(time, draw.uniform(150, 400))


def _high_tone(time: Wave, draw: Draw) -> Wave:
    return _sine(time, draw.uniform(1500, 3000))


def _rising(time: Wave, draw: Draw) -> Wave:
    return _sine(time, np.geomspace(draw.uniform(200, 500), draw.uniform(1500, 3000), len(time)))


def _falling(time: Wave, draw: Draw) -> Wave:
    return _sine(time, np.geomspace(draw.uniform(1500, 3000), draw.uniform(200, 500), len(time)))


def _clicks(time: Wave, draw: Draw) -> Wave:
    phase = (time * draw.uniform(8, 20)) % 1
    wave: Wave = np.where(np.diff(phase, prepend=1.0) < 0, 1.0, 0.0)
    return np.convolve(wave, np.exp(-np.arange(20) / 4))[: len(time)]


def _tremolo(time: Wave, draw: Draw) -> Wave:
    wave: Wave = _sine(time, draw.uniform(500, 1200)) * (0.5 + 0.5 * np.sin(2 * np.pi * draw.uniform(6, 14) * time))
    return wave


def _alarm(time: Wave, draw: Draw) -> Wave:
    first = draw.uniform(600, 1200)
    return _sine(time, np.where((time * draw.uniform(4, 8)) % 1 < 0.5, first, 1.5 * first))


def _hiss(time: Wave, draw: Draw) -> Wave:
    wave: Wave = np.diff(draw.standard_normal(len(time) + 1)) / 4
    return wave


KINDS: dict[str, Callable[[Wave, Draw], Wave]] = {
    "alarm": _alarm, "clicks": _clicks, "falling sweep": _falling, "high tone": _high_tone, "hiss": _hiss,
    "low tone": _low_tone, "rising sweep": _rising, "tremolo": _tremolo,
}  # fmt: skip


class SyntheticSoundsDataModule(ClipDataModule):
    """Clips of a second with 1 to 3 of 8 kinds of sounds: tones, sweeps, clicks, tremolo, alarms and hiss.

    Args:
        data_dir: not used: nothing is read.
        clips: number of training clips.
        test_clips: number of test clips.
        clip_seed: seed of the clips; runs of several seeds share them.
        options: those of ``ClipDataModule``.
    """

    name = "synthetic_sounds"

    def __init__(
        self,
        data_dir: str | Path = "data",
        *,
        sample_rate: int = 8000,
        clips: int = 1000,
        test_clips: int = 300,
        clip_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(data_dir, sample_rate=sample_rate, **options)
        self.clips = {
            "train": validation.whole("dataset.clips", clips, minimum=2),
            "test": validation.whole("dataset.test_clips", test_clips, minimum=1),
        }
        self.clip_seed = validation.whole("dataset.clip_seed", clip_seed)

    def options(self) -> dict[str, object]:
        """Return what the clips are drawn from."""
        return super().options() | {"clips": self.clips, "clip_seed": self.clip_seed, "drawing": DRAWING}

    def locate(self) -> Path:
        """Return the folder of the cache; the clips have no files."""
        return self.cache

    def stamps(self, folder: Path) -> list[Path]:
        """Return an empty list: there are no files."""
        return []

    def read(self, folder: Path) -> RawData:
        """Synthesize the clips."""
        splits = {
            split: drawn_clips(
                count, len(KINDS), SOUNDS, [self.clip_seed, split == "test"], partial(_clip, self.sample_rate)
            )
            for split, count in self.clips.items()
        }
        return RawData(splits, list(KINDS), sample_rate=self.sample_rate)


def _clip(rate: int, kinds: Sequence[int], draw: Draw) -> Wave:
    """Add up sounds at any place with any loudness, with soft edges, and noise."""
    length = round(SECONDS * rate)
    clip = draw.uniform(*NOISE) * draw.standard_normal(length)
    for sound in (list(KINDS.values())[kind] for kind in kinds):
        size = round(draw.uniform(*EVENT) * rate)
        wave = sound(np.arange(size) / rate, draw) * np.minimum(1, 10 * np.sin(np.pi * np.arange(size) / size))
        first = draw.integers(length - size + 1)
        clip[first : first + size] += draw.uniform(*GAIN) * wave
    return clip
