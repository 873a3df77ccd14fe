"""Read a split of class folders, with images of one size."""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from stkd_lightning.data.arrays import RawSplit
from stkd_lightning.data.decode import UnreadableImageError, decode
from stkd_lightning.data.image_files import images_below, kinds_of, say_left_out
from stkd_lightning.utilities.errors import InputError

CHUNK = 512  # images; fewer if they are large
CHUNK_BYTES = 1 << 28


def image_split(paths: Sequence[Path], labels: list[int] | NDArray[np.int64], size: int, description: str) -> RawSplit:
    """Return a split of image files, which are decoded when its images are iterated over.

    Args:
        paths: of the images.
        labels: their labels ``(N,)``, or tags ``(N, C)``.
        size: side in pixels to which images are resized and cropped.
        description: shown beside the progress bar.
    """
    unreadable: dict[int, UnreadableImageError] = {}
    return RawSplit(labels, decode_all(paths, size, description, unreadable), (3, size, size), unreadable)


def decode_all(
    paths: Sequence[Path], size: int, description: str, unreadable: dict[int, UnreadableImageError]
) -> Iterator[NDArray[np.uint8]]:
    """Yield chunks ``(n, 3, size, size)`` of the image files that can be read, in order, decoded on several threads.

    Args:
        paths: of the images.
        size: side in pixels.
        description: shown beside the progress bar.
        unreadable: gets the errors of the other files, by position.
    """

    def attempt(path: Path) -> NDArray[np.uint8] | UnreadableImageError:
        try:
            return decode(path, size)
        except UnreadableImageError as error:
            return UnreadableImageError(error.path, error.words)  # without the frames that hold its content

    count = max(1, min(CHUNK, CHUNK_BYTES // (3 * size**2)))
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
                yield np.stack(images)
            bar.update(len(results))


def class_folders(folder: Path) -> list[str]:
    """Return the names of a folder's subfolders, sorted, without hidden folders."""
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def read_folder(folder: Path, class_names: list[str], size: int, description: str) -> RawSplit:
    """Read a split from class folders.

    Args:
        folder: holds a folder for each class.
        class_names: names of these folders, in the order of the labels.
        size: side in pixels to which images are resized and cropped.
        description: shown beside the progress bar.

    Raises:
        InputError: no class folder, other class folders, or a class without images.
    """
    if not class_names:
        raise InputError(f"{folder}: contains no class folder")
    folders = class_folders(folder)
    if folders != sorted(class_names):
        odd = sorted(set(folders) ^ set(class_names))
        raise InputError(f"{folder}: its class folders differ from those of the training images: {', '.join(odd[:5])}")
    paths, labels, left_out = [], [], Counter[str]()
    beside = sum(not p.is_dir() for p in folder.iterdir())
    if beside:
        left_out["outside a class folder"] = beside
    around = {folder.resolve(), *folder.resolve().parents}
    for label, name in enumerate(class_names):
        if (folder / name).resolve() in around:
            raise InputError(f"{folder / name}: a link to a folder that contains it; delete this link")
        found = images_below(folder / name)
        if not found.images:
            others = f", only other files: {kinds_of(found.left_out)}" if found.left_out else ""
            raise InputError(f"{folder / name}: contains no image{others}")
        paths += found.images
        labels += [label] * len(found.images)
        left_out += found.left_out
    say_left_out(folder, left_out)
    return image_split(paths, labels, size, description)
