"""Predict the classes of the pixels of images with a segmentation student."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table
from tqdm import tqdm

from stkd_lightning.commands.image_list import NamedImage
from stkd_lightning.inference.mask_folder import MASKS, OVERLAYS, SHARES, class_shares, mask_folder
from stkd_lightning.inference.masks import predicted_masks
from stkd_lightning.inference.student import Student
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError

SHOWN = 20  # classes in the table


def predict_masks(
    student: Student,
    images: Sequence[NamedImage],
    output: Path | None,
    *,
    window: tuple[int, int] | None,
    overlays: bool,
) -> list[str]:
    """Predict masks, print the share of each class, and write the masks to a folder.

    Args:
        student: a segmentation student.
        images: the images.
        output: folder for ``masks/``, ``overlays/`` and ``shares.csv``; ``None``: nothing is written.
        window: as in ``predicted_masks``.
        overlays: whether overlays are written.

    Returns:
        A line for each image without a mask.

    Raises:
        InputError: two masks would have one name.
    """
    names = mask_names(images)
    shares, count, broken = [], len(student.class_names), []
    results = predicted_masks(student, (image.path for image in images), window=window)
    with mask_folder(output, student.class_names, overlays=overlays) as write:
        pairs = zip(images, names, results, strict=True)
        for image, name, mask in tqdm(pairs, "predict", len(images), unit="image", leave=False, disable=None):
            write(image.path, name, mask)
            if isinstance(mask, InputError):
                broken.append(str(mask))
            else:
                shares.append(class_shares(mask, count))
    print_rank_zero(_class_table(student.class_names, np.array(shares).reshape(-1, count)))
    if output is not None:
        parts = [MASKS, *[OVERLAYS] * overlays]
        print_rank_zero(f"{output}: {', '.join(f'{part}/' for part in parts)} of {len(shares):,} images, {SHARES}")
    return broken


def unpredicted(images: Sequence[NamedImage], output: Path | None) -> list[NamedImage]:
    """Return the images without the masks and overlays of an earlier prediction in the output folder."""
    written = set() if output is None else {(output / part).resolve() for part in (MASKS, OVERLAYS)}
    return [image for image in images if not written & set(image.path.resolve().parents)]


def mask_names(images: Sequence[NamedImage]) -> list[Path]:
    """Return the name of the mask of each image, which is its own with the ending ``.png``.

    Raises:
        InputError: two masks would have one name.
    """
    names: dict[Path, Path] = {}
    for image in images:
        name = image.name.with_suffix(".png")
        if name in names:
            raise InputError(
                f"images: {names[name]} and {image.path} would have one mask, {name}; predict them one after the other "
                "into two folders"
            )
        names[name] = image.path
    return list(names)


def _class_table(names: Sequence[str], shares: np.ndarray) -> Table:
    """Return the table of the classes with most pixels: their share of the pixels, and the images they are in."""
    mean, images = shares.mean(0) if len(shares) else np.zeros(len(names)), (shares > 0).sum(0)
    rest = f", the {SHOWN} of {len(names)} with most pixels" if len(names) > SHOWN else ""
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=f"classes in {len(shares):,} images{rest}",
        title_justify="left",
    )
    table.add_column("class", overflow="fold")
    table.add_column("pixels, %", justify="right")
    table.add_column("images", justify="right")
    for c in np.argsort(-mean, kind="stable")[:SHOWN]:
        table.add_row(names[c], f"{100 * mean[c]:.2f}", f"{images[c]:,}")
    return table
