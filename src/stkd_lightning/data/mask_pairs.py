"""Pairs of image and mask files, checked before training and read on several threads."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stkd_lightning.data.arrays import RawMasks
from stkd_lightning.data.mask_values import MaskValues
from stkd_lightning.data.masks import Header, image_header, mask_header, read_image, read_mask
from stkd_lightning.data.threads import SHOWN, read_in_order
from stkd_lightning.tasks.segmentation import IGNORED
from stkd_lightning.utilities.console import print_rank_zero, warn
from stkd_lightning.utilities.errors import InputError

CHUNK = 64  # pairs in memory; fewer if they are large
CHUNK_BYTES = 1 << 28

Sample = tuple[NDArray[np.uint8], NDArray[np.uint8]]


class Pair(NamedTuple):
    """The files of an image and its mask; without a mask all its pixels are ignored."""

    image: Path
    mask: Path | None


def pair_up(images: Mapping[str, Path], masks: Mapping[str, Path], rule: str) -> list[Pair]:
    """Pair images and masks of equal keys, in the order of the images.

    Args:
        images: by key.
        masks: by key.
        rule: the name of an image's mask, for messages.

    Raises:
        InputError: an image without mask or a mask without image; names the first files and their number.
    """
    for files, others, words in ((images, masks, "image without mask"), (masks, images, "mask without image")):
        if alone := [path for key, path in files.items() if key not in others]:
            raise InputError(f"{words}: {first_of(alone)}; {rule}")
    return [Pair(path, masks[key]) for key, path in images.items()]


def check_exist(pairs: Iterable[Pair], advice: str) -> None:
    """Refuse pairs whose files do not exist.

    Args:
        pairs: of a split.
        advice: end of the message.

    Raises:
        InputError: names the first files and their number.
    """
    if missing := [path for pair in pairs for path in pair if path and not path.is_file()]:
        raise InputError(f"missing: {first_of(missing)}; {advice}")


def first_of(paths: Sequence[Path]) -> str:
    """Return the first path, the names of some others, and the number of the rest."""
    names = [str(paths[0]), *(path.name for path in paths[1:SHOWN])]
    return ", ".join(names) + (f" and {len(paths) - SHOWN:,} more" if len(paths) > SHOWN else "")


def read_pairs(
    pairs: Sequence[Pair], values: MaskValues, description: str, class_names: Sequence[str] | None = None
) -> RawMasks:
    """Return a split of pairs; sizes are compared at once, pixels are read as the samples are iterated over.

    Args:
        pairs: of the split.
        values: meaning of the masks' values.
        description: of the split, for messages and beside the progress bar.
        class_names: of training data; a class without a pixel gets a warning.

    Raises:
        InputError: a file that cannot be read, or an image and a mask of different sizes; during the iteration, also
            a mask with values of no class, or with ignored pixels only.
    """
    headers = list(read_in_order(_header, pairs, chunk=CHUNK, description=f"sizes of {description}"))
    if turned := sum(header.orientation != 1 for header in headers):
        print_rank_zero(
            f"{description}: {turned:,} turned as its EXIF orientation says; its mask must fit the turned image"
        )
    sizes = np.array([header[:2] for header in headers], dtype=np.int64).reshape(-1, 2)
    return RawMasks(sizes, _samples(pairs, headers, values, description, class_names or ()))


def _header(pair: Pair) -> Header:
    """Return the header of an image; refuse a mask of another size."""
    image = image_header(pair.image)
    if pair.mask is None:
        return image
    mask = mask_header(pair.mask)
    if mask[:2] != image[:2]:
        turned = f" as its EXIF orientation {image.orientation} turns it" if image.orientation != 1 else ""
        raise InputError(
            f"image {pair.image}: {image.width} x {image.height} pixels{turned}, but its mask {pair.mask} has "
            f"{mask.width} x {mask.height}; save both at one size"
        )
    return image


def _samples(
    pairs: Sequence[Pair], headers: Sequence[Header], values: MaskValues, description: str, class_names: Sequence[str]
) -> Iterator[Sample]:
    """Yield the images and labels of pairs."""

    def read(position: int) -> Sample:
        pair, (height, width, _) = pairs[position], headers[position]
        image = read_image(pair.image)
        mask = np.full((height, width), IGNORED, dtype=np.uint8) if pair.mask is None else read_mask(pair.mask)
        for path, shape in ((pair.image, image.shape[1:]), (pair.mask, mask.shape)):
            if shape != (height, width):  # a PNG may say it behind the pixels, where no header is read
                raise InputError(f"image {path}: its EXIF orientation is behind its pixels; save it again")
        if pair.mask is None:
            return image, mask
        try:
            return image, values.to_labels(mask)
        except InputError as error:
            raise InputError(f"mask {pair.mask}: {error}") from error

    largest = max((4 * header.height * header.width for header in headers), default=1)
    absent = set(range(len(class_names)))
    chunk = max(1, min(CHUNK, CHUNK_BYTES // largest))
    for image, labels in read_in_order(read, range(len(pairs)), chunk=chunk, description=description):
        if absent:
            absent -= set(np.flatnonzero(np.bincount(labels.ravel())).tolist())
        yield image, labels
    if absent:
        warn(f"{description}: no pixel of class {', '.join(class_names[label] for label in sorted(absent))}")
