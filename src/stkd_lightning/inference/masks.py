"""Masks that a segmentation student predicts for image files, image by image; another thread decodes the next ones."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from stkd_lightning.data.batches import Normalize
from stkd_lightning.data.masks import read_image
from stkd_lightning.inference.student import Student
from stkd_lightning.tasks.segmentation import Segmentation
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.float32 import exact_float32

Decoded = NDArray[np.uint8] | InputError
AHEAD = 2  # images that are decoded while another one is predicted
SIDE = 512  # pixels of a window that most machines can compute


class Mask(NamedTuple):
    """The predicted classes of the pixels of an image.

    Attributes:
        path: of the image.
        image: ``(3, h, w)`` uint8.
        classes: ``(h, w)`` uint8, positions in the class names.
    """

    path: Path
    image: NDArray[np.uint8]
    classes: NDArray[np.uint8]


def predicted_masks(
    student: Student, paths: Iterable[Path], *, window: tuple[int, int] | None = None
) -> Iterator[Mask | InputError]:
    """Yield a student's mask for each file at the size of its image, or the error if there is none, in order.

    Args:
        student: a segmentation student, on any device.
        paths: image files; at most ``AHEAD`` decoded ones are in memory besides the current one.
        window: height and width of the windows in which larger images are predicted; ``None``: images as a whole.
    """
    normalize = Normalize(student.mean, student.std).to(student.device)
    task = Segmentation(student.class_names, window=window)
    for path, image in _decoded(paths):
        if isinstance(image, InputError):
            yield image
            continue
        try:
            with torch.inference_mode(), exact_float32():
                logits = task.infer(student, normalize(torch.from_numpy(image.copy())[None].to(student.device)))
                classes = logits[0].argmax(0).to(torch.uint8).cpu().numpy()
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            yield _too_large(path, image, window)
            continue
        yield Mask(path, image, classes)


def _decoded(paths: Iterable[Path]) -> Iterator[tuple[Path, Decoded]]:
    """Yield files with their images; the next images are decoded in the meantime."""
    remaining = iter(paths)
    with ThreadPoolExecutor(AHEAD) as pool:

        def begin(count: int) -> list[tuple[Path, Future[Decoded]]]:
            return [(path, pool.submit(_decode, path)) for path in islice(remaining, count)]

        waiting = deque(begin(AHEAD))
        while waiting:
            path, future = waiting.popleft()
            image = future.result()
            waiting.extend(begin(1))
            yield path, image


def _decode(path: Path) -> Decoded:
    try:
        return read_image(path)
    except InputError as error:
        return error


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether a device had too little memory; on CPUs torch raises an error of no type of its own."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "alloc" in text or "not enough memory" in text


def _too_large(path: Path, image: NDArray[np.uint8], window: tuple[int, int] | None) -> InputError:
    smaller = [SIDE, SIDE] if window is None else [max(8, side // 2) for side in window]
    height, width = image.shape[1:]
    advice = f"set window=[{smaller[0]},{smaller[1]}]"
    return InputError(f"image {path}: {width} x {height} pixels need more memory than there is; {advice}")
