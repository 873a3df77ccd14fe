"""Predictions of a student for image files, batch by batch; other threads decode the next images."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stkd_lightning.data.batches import Normalize
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.float32 import exact_float32

BATCH = 64
Decoded = NDArray[np.uint8] | InputError


class Classifier(Protocol):
    """A network that classifies images, with their size and normalization, and the class names."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""

    @property
    def mean(self) -> Sequence[float]:
        """Mean of each channel, in units of 1."""

    @property
    def std(self) -> Sequence[float]:
        """Standard deviation of each channel, in units of 1."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""

    def decode(self, path: Path) -> NDArray[np.uint8]:
        """Read an image file as ``(3, H, W)`` uint8 of the network's size.

        Raises:
            InputError: a file that cannot be read.
        """

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits ``(B, K)`` of normalized images ``(B, 3, H, W)``."""


class Prediction(NamedTuple):
    """The most probable classes of an image.

    Attributes:
        path: of the image.
        classes: class names, the most probable first.
        probabilities: of these classes, in [0, 1].
    """

    path: Path
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


def predictions(
    student: Classifier, paths: Iterable[Path], *, top: int = 5, batch_size: int = BATCH
) -> Iterator[Prediction | InputError]:
    """Yield a student's prediction for each file, or the error if it cannot be read, in order.

    Args:
        student: on any device.
        paths: image files; at most two batches are in memory.
        top: number of classes for each image, at least 1; at most all classes are given.
        batch_size: images of a batch.

    Raises:
        InputError: ``top`` or ``batch_size`` below 1.
    """
    validation.whole("batch_size", batch_size, minimum=1)
    count = min(validation.whole("top", top, minimum=1), len(student.class_names))
    normalize = Normalize(student.mean, student.std).to(student.device)
    for chunk in _decoded(paths, student.decode, batch_size):
        images = [image for _, image in chunk if not isinstance(image, InputError)]
        results: Iterator[tuple[list[float], list[int]]] = iter(())
        if images:
            with torch.inference_mode(), exact_float32():
                logits = student(normalize(torch.from_numpy(np.stack(images)).to(student.device)))
                values, classes = logits.float().softmax(1).topk(count)
            results = iter(zip(values.tolist(), classes.tolist(), strict=True))
        for path, image in chunk:
            if isinstance(image, InputError):
                yield image
            else:
                probabilities, indices = next(results)
                yield Prediction(path, tuple(student.class_names[i] for i in indices), tuple(probabilities))


def _decoded(
    paths: Iterable[Path], decode: Callable[[Path], NDArray[np.uint8]], count: int
) -> Iterator[list[tuple[Path, Decoded]]]:
    """Yield chunks of decoded files; the next chunk is decoded in the meantime."""
    remaining = iter(paths)
    with ThreadPoolExecutor() as pool:

        def attempt(path: Path) -> Decoded:
            try:
                return decode(path)
            except InputError as error:
                return error

        def begin() -> list[tuple[Path, Future[Decoded]]]:
            return [(path, pool.submit(attempt, path)) for path in islice(remaining, count)]

        chunk = begin()
        while chunk:
            following = begin()
            yield [(path, future.result()) for path, future in chunk]
            chunk = following
