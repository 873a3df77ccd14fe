"""Splits that are folders of class folders of image files."""

from pathlib import Path

from stkd_lightning.data.arrays import RawSplit
from stkd_lightning.data.images import class_folders, decode_all, image_files
from stkd_lightning.utilities.errors import InputError


def read_folder(folder: Path, class_names: list[str], size: int, description: str) -> RawSplit:
    """Read one split.

    Args:
        folder: holds a folder for each class.
        class_names: names of those folders, in the order of the labels.
        size: side in pixels that images are brought to.
        description: shown beside the progress bar.

    Raises:
        InputError: no class folder, another set of them, or a class without images.
    """
    if not class_names:
        raise InputError(f"{folder}: holds no folder of a class")
    found = class_folders(folder)
    if found != sorted(class_names):
        odd = sorted(set(found) ^ set(class_names))
        raise InputError(f"{folder}: its class folders differ from those of the training images: {', '.join(odd[:5])}")
    paths, labels = [], []
    for label, name in enumerate(class_names):
        own = image_files(folder / name)
        if not own:
            raise InputError(f"{folder / name}: holds no image")
        paths += own
        labels += [label] * len(own)
    return RawSplit(labels, decode_all(paths, size, description), (3, size, size))
