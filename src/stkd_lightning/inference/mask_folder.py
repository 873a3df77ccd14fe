"""Write predicted masks to a folder: palette PNGs, overlays, and the share of each class in a CSV file."""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from stkd_lightning.inference.masks import Mask
from stkd_lightning.utilities.colours import class_colours
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.files import atomic_file
from stkd_lightning.utilities.text import csv_cell

MASKS, OVERLAYS, SHARES = "masks", "overlays", "shares.csv"
OPACITY = 0.5  # of the colours in an overlay

Write = Callable[[Path, Path, Mask | InputError], None]


def class_shares(mask: Mask, count: int) -> np.ndarray:
    """Return the share of the pixels of each of the classes, ``(count,)``."""
    return np.bincount(mask.classes.ravel(), minlength=count) / mask.classes.size


def overlay(mask: Mask, count: int) -> Image.Image:
    """Return an image with the colours of its classes over it."""
    image, colours = mask.image.transpose(1, 2, 0), class_colours(count)[mask.classes]
    return Image.fromarray(np.round((1 - OPACITY) * image + OPACITY * colours).astype(np.uint8))


def palette_image(mask: Mask, count: int) -> Image.Image:
    """Return a mask as an image with a palette: its values are the classes, and it is shown in their colours."""
    image = Image.fromarray(mask.classes)
    image.putpalette(class_colours(count).tobytes())
    return image


@contextmanager
def mask_folder(folder: Path | None, class_names: Sequence[str], *, overlays: bool) -> Iterator[Write]:
    """Yield a function that writes an image's mask, or the error that there is none; a file is whole at any time.

    The function takes the image's path, the name of its mask below the folder, and the result.

    Args:
        folder: gets ``masks/``, ``overlays/`` and ``shares.csv``, whose columns have the names of the classes in their
            order; ``None``: nothing is written.
        class_names: in the order of the values.
        overlays: whether overlays are written.
    """
    if folder is None:
        yield lambda path, name, result: None
        return
    folder.mkdir(parents=True, exist_ok=True)
    count = len(class_names)
    with (
        atomic_file(folder / SHARES) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["image", "mask", "error", *map(csv_cell, class_names)])

        def write(path: Path, name: Path, result: Mask | InputError) -> None:
            if isinstance(result, InputError):
                rows.writerow([csv_cell(path), "", csv_cell(result), *[""] * count])
                return
            _save(palette_image(result, count), folder / MASKS / name)
            if overlays:
                _save(overlay(result, count), folder / OVERLAYS / name)
            shares = (f"{share:.6f}" for share in class_shares(result, count))
            rows.writerow([csv_cell(path), csv_cell(Path(MASKS) / name), "", *shares])

        yield write


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial:
        image.save(partial, format="PNG")
