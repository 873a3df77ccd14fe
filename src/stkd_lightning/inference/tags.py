"""Tags that a student hears in sound files, or sees in images, file by file."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.float32 import exact_float32

CHUNK = 16  # files in memory at once


class TagPrediction(NamedTuple):
    """The tags of a file.

    Attributes:
        path: of the file.
        probabilities: ``(C,)`` float32 of the tags, in [0, 1].
        frames: ``(C, T)`` float32: those of each frame; ``None`` if they were not asked for, or the network has none.
        seconds: of the clip; ``None`` for an image.
    """

    path: Path
    probabilities: NDArray[np.float32]
    frames: NDArray[np.float32] | None = None
    seconds: float | None = None


class TagNetwork(Protocol):
    """A student that tags inputs read from files."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""

    def read(self, path: Path) -> Tensor:
        """Return the input ``(1, ...)`` of a file, on the CPU.

        Raises:
            InputError: a file that cannot be read.
        """

    def frame_logits(self, inputs: Tensor) -> Tensor | None:
        """Return logits ``(1, T, C)`` of the frames; ``None`` if the network has none."""

    def seconds(self, inputs: Tensor) -> float | None:
        """Return the length of a clip ``(1, T)``; ``None`` for an image."""

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return logits ``(1, C)``."""


def predicted_tags(
    student: TagNetwork, paths: Iterable[Path], *, frames: bool = False
) -> Iterator[TagPrediction | InputError]:
    """Yield the tags of each file, or the error if it cannot be read, in order; clips keep their own lengths.

    Args:
        student: on any device.
        paths: of the files.
        frames: also give the probabilities of each frame.
    """
    remaining = iter(paths)

    def attempt(path: Path) -> Tensor | InputError:
        try:
            return student.read(path)
        except InputError as error:
            return error

    with ThreadPoolExecutor() as pool:
        while chunk := list(islice(remaining, CHUNK)):
            for path, inputs in zip(chunk, pool.map(attempt, chunk), strict=True):
                yield inputs if isinstance(inputs, InputError) else _tagged(student, path, inputs, frames=frames)


@torch.inference_mode()
@exact_float32()
def _tagged(student: TagNetwork, path: Path, inputs: Tensor, *, frames: bool) -> TagPrediction:
    on_device = inputs.to(student.device)
    probabilities = student(on_device).float().sigmoid()[0].cpu().numpy()
    logits = student.frame_logits(on_device) if frames else None
    over_time = None if logits is None else logits.float().sigmoid()[0].T.cpu().numpy()
    return TagPrediction(path, probabilities, over_time, student.seconds(inputs))
