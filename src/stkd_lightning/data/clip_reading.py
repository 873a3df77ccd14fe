"""Read the clips of a split from sound files, on several threads."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stkd_lightning.data.audio_files import read_audio
from stkd_lightning.data.clip_arrays import RawClips
from stkd_lightning.data.threads import read_in_order

CHUNK = 64  # clips in memory at once


def read_clips(paths: Sequence[Path], labels: NDArray[np.uint8], sample_rate: int, description: str) -> RawClips:
    """Return a split of sound files, which are read when its clips are iterated over.

    Args:
        paths: of the files.
        labels: their tags ``(N, C)``.
        sample_rate: Hz.
        description: for messages and beside the progress bar.

    Raises:
        InputError: during the iteration, files that cannot be read; names the first.
    """
    read = partial(read_audio, sample_rate=sample_rate)
    return RawClips(labels, read_in_order(read, list(paths), chunk=CHUNK, description=description, unit="clip"))
