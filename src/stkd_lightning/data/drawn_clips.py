"""Clips that are mixed from sounds of several tags, each a function of a seed and its position."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stkd_lightning.data.audio_files import levels_of
from stkd_lightning.data.clip_arrays import RawClips

Make = Callable[[Sequence[int], np.random.Generator], NDArray[np.float64]]


def drawn_clips(count: int, classes: int, tags: tuple[int, int], seed: Sequence[int], make: Make) -> RawClips:
    """Draw the tags of each clip, and mix its sounds when it is read.

    Args:
        count: number of clips.
        classes: number of tags.
        tags: fewest and most tags of a clip.
        seed: of the draws.
        make: returns the waveform in [-1, 1) of some tags; draws from the clip's generator.
    """
    draws = [np.random.default_rng([*seed, position]) for position in range(count)]
    present = [draw.permutation(classes)[: draw.integers(tags[0], tags[1] + 1)].tolist() for draw in draws]
    labels = np.zeros((count, classes), dtype=np.uint8)
    for row, chosen in zip(labels, present, strict=True):
        row[chosen] = 1

    def made() -> Iterator[NDArray[np.int16]]:
        for draw, chosen in zip(draws, present, strict=True):
            yield levels_of(make(chosen, draw))

    return RawClips(labels, made())
