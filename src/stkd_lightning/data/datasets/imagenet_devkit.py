"""The classes of ImageNet's numbered validation images, from the development kit of ILSVRC 2012."""

import re
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from stkd_lightning.data.class_folders import Listed
from stkd_lightning.data.image_files import images_below
from stkd_lightning.data.text_file import read_lines
from stkd_lightning.utilities.errors import InputError, reason

TRUTH, META = Path("data/ILSVRC2012_validation_ground_truth.txt"), Path("data/meta.mat")
NUMBERED = re.compile(r"ILSVRC2012_val_(\d{8})\.jpe?g", re.IGNORECASE)
ADVICE = "unpack ILSVRC2012_devkit_t12.tar.gz beside train and val, or put the images of val in a folder for each class"


def synset_list(devkit: Path) -> list[str]:
    """Return the WordNet ID of each validation image, in the order of their numbers.

    Args:
        devkit: folder of the development kit.

    Raises:
        InputError: a file is missing or damaged.
    """
    numbers = read_lines(devkit / TRUTH, ADVICE)
    meta = devkit / META
    try:
        synsets = np.atleast_1d(loadmat(meta, squeeze_me=True)["synsets"])
        of_number = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
    except Exception as error:  # scipy raises many types for a damaged file
        words = getattr(error, "strerror", None) or reason(error)
        raise InputError(f"{meta}: cannot be read ({words}); {ADVICE}") from error
    try:
        return [of_number[int(number)] for number in numbers]
    except (ValueError, KeyError) as error:
        raise InputError(f"{devkit / TRUTH}: names a class that {META.name} has not: {reason(error)[:50]}") from error


def list_numbered(folder: Path, synsets: list[str], class_names: list[str]) -> Listed:
    """List numbered images of a folder with their classes.

    Args:
        folder: with images such as ``ILSVRC2012_val_00000001.JPEG``.
        synsets: WordNet ID of each number, counted from 1.
        class_names: WordNet IDs in the order of the labels.

    Raises:
        InputError: no image, an image without number, or a class without training images.
    """
    paths, labels = images_below(folder).images, list[int]()
    label_of = {name: label for label, name in enumerate(class_names)}
    if not paths:
        raise InputError(f"{folder}: contains no image")
    for path in paths:
        match = NUMBERED.fullmatch(path.name)
        if match is None or not 1 <= int(match[1]) <= len(synsets):
            raise InputError(
                f"{path}: not one of the {len(synsets):,} validation images that the development kit names"
            )
        synset = synsets[int(match[1]) - 1]
        if synset not in label_of:
            raise InputError(f"{path}: is of class {synset}, which train has no folder for; delete this image")
        labels.append(label_of[synset])
    return Listed(paths, labels)
