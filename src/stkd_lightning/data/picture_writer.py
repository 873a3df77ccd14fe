"""Write splits of images of unequal sides: their pixels in a row, or records of their files."""

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from stkd_lightning.data.array_header import array_header
from stkd_lightning.data.decode import UnreadableImageError, decode_covering, size_and_digest
from stkd_lightning.data.picture_split import RawFiles, RawPictures, file_type
from stkd_lightning.utilities.random import generator

MEASURED = 2048  # images from which mean and std are computed where images are not prepared


class WithLabels(Protocol):
    """A split as it is read."""

    @property
    def labels(self) -> list[int] | NDArray[np.int64]:
        """Labels of all images."""

    @property
    def unreadable(self) -> Mapping[int, UnreadableImageError]:
        """Errors by position."""


def kept_labels(split: WithLabels) -> NDArray[np.int64]:
    """Return the labels of the images that could be read."""
    return np.delete(np.asarray(split.labels, dtype=np.int64), list(split.unreadable), axis=0)


def histogram(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count pixels ``(C, ...)`` by channel and value, ``(C, 256)``."""
    return np.stack([np.bincount(channel.ravel(), minlength=256) for channel in pixels])


def write_pictures(
    folder: Path, name: str, split: RawPictures, digest: "hashlib._Hash"
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Write images of unequal sides in a row, with their labels, and update the digest.

    Returns:
        The number of pixels ``(3, 256)`` by channel and value, and the sizes ``(N, 2)``.
    """
    counts, sizes = np.zeros((3, 256), dtype=np.int64), []
    with (folder / f"{name}_images.npy").open("wb") as file:
        file.write(array_header((2**62,)))  # its length is not known yet
        for picture in split.pictures:
            content = np.ascontiguousarray(picture).data
            file.write(content)
            digest.update(content)
            sizes.append(picture.shape[1:])
            counts += histogram(picture)
        shapes = np.array(sizes, dtype=np.int64).reshape(-1, 2)
        file.seek(0)
        file.write(array_header((3 * int(shapes.prod(1).sum()),)))
    labels = kept_labels(split)
    if len(shapes) != len(labels):
        raise ValueError(f"{name}: {len(shapes)} images for {len(labels)} labels")
    for part in (labels, shapes):
        digest.update(np.ascontiguousarray(part).data)
    np.save(folder / f"{name}_labels.npy", labels)
    return counts, shapes


def write_files(folder: Path, name: str, split: RawFiles, digest: "hashlib._Hash") -> NDArray[np.int64]:
    """Write records of image files, with their labels, and update the digest; all files are read.

    Returns:
        The number of pixels ``(3, 256)`` by channel and value of some drawn images, at the sides of an evaluation.
    """

    def attempt(path: Path) -> tuple[int, int, bytes] | UnreadableImageError:
        try:
            return size_and_digest(path)
        except UnreadableImageError as error:
            return UnreadableImageError(error.path, error.words)  # without the frames that hold its content

    within = [path.is_relative_to(split.root) for path in split.paths]
    names = [
        os.fsencode(path.relative_to(split.root) if inside else path.absolute())
        for path, inside in zip(split.paths, within, strict=True)
    ]
    with ThreadPoolExecutor() as pool:
        found = list(tqdm(pool.map(attempt, split.paths), f"{name} images", len(names), leave=False, disable=None))
    split.unreadable.update({i: each for i, each in enumerate(found) if isinstance(each, UnreadableImageError)})
    rows = [(path, *each) for path, each in zip(names, found, strict=True) if not isinstance(each, Exception)]
    records = np.array(rows, dtype=file_type(max(map(len, names))))
    labels = kept_labels(split)
    np.save(folder / f"{name}_images.npy", records)
    np.save(folder / f"{name}_labels.npy", labels)
    for part in (records.view(np.uint8), labels):
        digest.update(np.ascontiguousarray(part).data)
    drawn = generator(0, "moments").permutation(len(records))[: MEASURED if name == "train" else 0]
    counts = np.zeros((3, 256), dtype=np.int64)
    kept = [path for i, path in enumerate(split.paths) if i not in split.unreadable]
    for i in tqdm(sorted(drawn.tolist()), "mean and std", leave=False, disable=None):
        counts += histogram(decode_covering(kept[i], split.view.side))
    return counts
