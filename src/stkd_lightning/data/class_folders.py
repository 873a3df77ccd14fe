"""List the images of class folders, and divide them in those to train on and those to test on."""

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stkd_lightning.data.arrays import RawSplit
from stkd_lightning.data.image_files import SHOWN, images_below, kinds_of, say_left_out
from stkd_lightning.data.image_reading import Labels, image_split
from stkd_lightning.tasks.types import UNLABELLED
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.paths import key_of


def class_folders(folder: Path) -> list[str]:
    """Return the names of a folder's subfolders, sorted, without hidden folders."""
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


class Listed(NamedTuple):
    """The image files of a split, and their labels ``(N,)``, or tags ``(N, C)``."""

    paths: list[Path]
    labels: Labels


def read_folder(folder: Path, class_names: list[str], size: int, description: str) -> RawSplit:
    """Read a split from class folders; arguments as in ``list_folder`` and ``image_split``."""
    return image_split(*list_folder(folder, class_names), size, description)


def list_folder(
    folder: Path, class_names: Sequence[str], *, all_classes: bool = True, beside: Collection[str] = ()
) -> Listed:
    """List the images of a split in class folders.

    Args:
        folder: holds a folder for each class.
        class_names: names of these folders, in the order of the labels.
        all_classes: refuse a class without a folder or without images; otherwise say so.
        beside: names of folders in it that belong to other splits.

    Raises:
        InputError: no class folder, other class folders, or a class without images.
    """
    if not class_names:
        raise InputError(f"{folder}: contains no class folder")
    folders = set(class_folders(folder)) - set(beside)
    odd = folders ^ set(class_names) if all_classes else folders - set(class_names)
    if odd:
        raise InputError(
            f"{folder}: its class folders differ from those of the training images: {', '.join(sorted(odd)[:5])}"
        )
    paths, labels, left_out, empty = list[Path](), list[int](), Counter[str](), []
    if outside := sum(not p.is_dir() for p in folder.iterdir()):
        left_out["outside a class folder"] = outside
    around = {folder.resolve(), *folder.resolve().parents}
    for label, name in enumerate(class_names):
        if not all_classes and name not in folders:
            empty.append(name)
            continue
        if (folder / name).resolve() in around:
            raise InputError(f"{folder / name}: a link to a folder that contains it; delete this link")
        found = images_below(folder / name)
        if not found.images and not all_classes:
            empty.append(name)
        elif not found.images:
            others = f", only other files: {kinds_of(found.left_out)}" if found.left_out else ""
            raise InputError(f"{folder / name}: contains no image{others}")
        paths += found.images
        labels += [label] * len(found.images)
        left_out += found.left_out
    say_left_out(folder, left_out)
    if empty:
        more = f" and {len(empty) - SHOWN} more" if len(empty) > SHOWN else ""
        print_rank_zero(f"{folder}: no image of class {', '.join(empty[:SHOWN])}{more}")
    return Listed(paths, labels)


def with_unlabelled(splits: Mapping[str, Listed], folder: Path) -> Listed:
    """Return the training images and the images below a folder, which have the label ``UNLABELLED``.

    Raises:
        InputError: the folder has no image, or has labelled images of any split.
    """
    found = images_below(folder)
    if not found.images:
        raise InputError(f"dataset.unlabeled_dir={folder}: contains no image")
    resolved = cache(os.path.realpath)  # of folders; to resolve each of a million files takes minutes
    labelled = {(resolved(path.parent), path.name) for listed in splits.values() for path in listed.paths}
    twice = next((path for path in found.images if (resolved(path.parent), path.name) in labelled), None)
    if twice is not None:
        raise InputError(
            f"dataset.unlabeled_dir={folder}: {twice} is a labelled image; name a folder without labelled images"
        )
    say_left_out(folder, found.left_out)
    paths, labels = splits["train"]
    return Listed([*paths, *found.images], [*labels, *[UNLABELLED] * len(found.images)])


def hold_out_files(listed: Listed, root: Path, fraction: float, seed: int) -> tuple[Listed, Listed]:
    """Divide the images of class folders in those to train on and those to test on.

    A function of the file's name and the seed decides, so that images which are added later move few others.

    Args:
        listed: files with a label each.
        root: folder to which the names are relative.
        fraction: share in (0, 1) of each class to test on, rounded to whole images; of 2 or more at least one is in
            each part, and a single image is trained on.
        seed: of the choice.
    """
    labels = np.asarray(listed.labels)
    keys = [key_of([seed, "test", os.path.relpath(path, root)]) for path in listed.paths]
    tested = np.zeros(len(keys), dtype=bool)
    for label in np.unique(labels):
        members = sorted(np.flatnonzero(labels == label).tolist(), key=keys.__getitem__)
        tested[members[: min(max(1, round(fraction * len(members))), len(members) - 1)]] = True
    first, second = (
        Listed([listed.paths[i] for i in np.flatnonzero(part)], labels[part].tolist()) for part in (~tested, tested)
    )
    return first, second
