"""Decode image files to the splits of a data set, on several threads."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from stkd_lightning.data.arrays import RawSplit
from stkd_lightning.data.decode import UnreadableImageError, decode, decode_covering
from stkd_lightning.data.picture_split import RawPictures, View

CHUNK = 512  # images; fewer if they are large
CHUNK_BYTES = 1 << 28
PICTURES = 64  # of unequal sides in a chunk


Labels = list[int] | NDArray[np.int64]  # of images (N,), or tags (N, C)


def image_split(paths: Sequence[Path], labels: Labels, size: int | tuple[int, int], description: str) -> RawSplit:
    """Return a split of image files, which are decoded when its images are iterated over.

    Args:
        paths: of the images.
        labels: their labels ``(N,)``, or tags ``(N, C)``.
        size: side in pixels, or height and width, to which images are resized and cropped.
        description: shown beside the progress bar.
    """
    unreadable: dict[int, UnreadableImageError] = {}
    height, width = (size, size) if isinstance(size, int) else size
    count = max(1, min(CHUNK, CHUNK_BYTES // (3 * height * width)))
    chunks = decode_all(paths, partial(decode, size=size), count, description, unreadable)
    return RawSplit(labels, map(np.stack, chunks), (3, height, width), unreadable)


def pictures_of_unequal_sides(paths: Sequence[Path], labels: Labels, view: View, description: str) -> RawPictures:
    """Return a split of image files of unequal sides, each made smaller, but so that it covers ``view.side``.

    Args:
        paths: of the images.
        labels: as in ``image_split``.
        view: of an evaluation.
        description: shown beside the progress bar.
    """
    unreadable: dict[int, UnreadableImageError] = {}
    chunks = decode_all(paths, partial(decode_covering, cover=view.side), PICTURES, description, unreadable)
    return RawPictures(labels, chain.from_iterable(chunks), view, unreadable)


def decode_all(
    paths: Sequence[Path],
    read: Callable[[Path], NDArray[np.uint8]],
    count: int,
    description: str,
    unreadable: dict[int, UnreadableImageError],
) -> Iterator[list[NDArray[np.uint8]]]:
    """Yield the image files that can be read, in order and in chunks, decoded on several threads.

    Args:
        paths: of the images.
        read: decodes a file.
        count: largest number of images in a chunk.
        description: shown beside the progress bar.
        unreadable: gets the errors of the other files, by position.
    """

    def attempt(path: Path) -> NDArray[np.uint8] | UnreadableImageError:
        try:
            return read(path)
        except UnreadableImageError as error:
            return UnreadableImageError(error.path, error.words)  # without the frames that hold its content

    with (
        ThreadPoolExecutor() as pool,
        tqdm(total=len(paths), desc=description, unit="image", leave=False, disable=None) as bar,
    ):
        for first in range(0, len(paths), count):
            with warnings.catch_warnings():  # a damaged image is named with its error
                warnings.filterwarnings("ignore", module="PIL")
                results = list(pool.map(attempt, paths[first : first + count]))
            images = []
            for position, result in enumerate(results, first):
                if isinstance(result, UnreadableImageError):
                    unreadable[position] = result
                else:
                    images.append(result)
            if images:
                yield images
            bar.update(len(results))
