"""Open a prepared data set, and check that its files fit each other."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stkd_lightning.data.arrays import FACTS, AnySplit, Arrays, MaskedSplit, Split, files_of, stamp_of
from stkd_lightning.data.clip_arrays import ClipSplit
from stkd_lightning.data.picture_split import FileSplit, PictureSplit, View, file_type, mapped
from stkd_lightning.tasks.types import UNLABELLED
from stkd_lightning.utilities.errors import InputError, reason

OF_IMAGES = (Split, PictureSplit, FileSplit)  # their labels are of whole images


def open_arrays(folder: Path) -> Arrays:
    """Open a prepared data set: read its description and its labels, but no pixel.

    Raises:
        InputError: it is damaged, for example by a crash of the machine.
    """
    try:
        facts: dict[str, Any] = json.loads((folder / FACTS).read_text())
        stamps = {name: stamp_of(folder / name) for name in files_of(facts["splits"])}
        facts = {name: tuple(fact) if isinstance(fact, list) else fact for name, fact in facts.items()}
        known = {name: facts.pop(name, None) for name in ("sizes", "lengths", "view", "root")}
        facts["splits"] = {name: _open(folder, name, known) for name in facts["splits"]}
        arrays = Arrays(**facts, folder=folder, stamps=stamps)
        _check(arrays)
    except Exception as error:  # json, numpy and wrong types raise many types
        raise InputError(
            f"prepared data {folder}: damaged ({reason(error)}); delete this folder and run again"
        ) from error
    return arrays


def _open(folder: Path, name: str, known: Mapping[str, Any]) -> AnySplit:
    """Open a split of the kind that its description tells: sizes, lengths, view and root, where there are any."""
    if known["lengths"] is not None:
        return _open_clips(folder, name, known["lengths"][name])
    if known["view"] is not None:
        size, side = (tuple(pair) for pair in known["view"])
        if known["root"] is not None:
            return _open_files(folder, name, Path(known["root"]), View(size, side))
        return _open_pictures(folder, name, known["sizes"][name], View(size, side))
    return _open_split(folder, name) if known["sizes"] is None else _open_masks(folder, name, known["sizes"][name])


def _open_pictures(folder: Path, name: str, sizes: list[list[int]], view: View) -> PictureSplit:
    images, labels = np.load(folder / f"{name}_images.npy", mmap_mode="r"), np.load(folder / f"{name}_labels.npy")
    pairs = torch.tensor(sizes, dtype=torch.int64).view(-1, 2)
    if images.dtype != np.uint8 or images.shape != (3 * int(pairs.prod(1).sum()),) or pairs.min() < 1:
        raise ValueError(f"{name}_images.npy holds {images.dtype} {images.shape}, not the images of {FACTS}")
    if labels.dtype != np.int64 or len(labels) != len(pairs):
        raise ValueError(f"{name}_labels.npy holds {labels.dtype} {labels.shape} for {len(pairs)} images")
    return PictureSplit.of(mapped(images), torch.from_numpy(labels), pairs, view)


def _open_files(folder: Path, name: str, root: Path, view: View) -> FileSplit:
    files, labels = np.load(folder / f"{name}_images.npy", mmap_mode="r"), np.load(folder / f"{name}_labels.npy")
    if files.ndim != 1 or files.dtype != file_type(files.dtype["path"].itemsize):
        raise ValueError(f"{name}_images.npy holds {files.dtype}, not records of files")
    if labels.dtype != np.int64 or len(labels) != len(files):
        raise ValueError(f"{name}_labels.npy holds {labels.dtype} {labels.shape} for {len(files)} images")
    return FileSplit(files, torch.from_numpy(labels), root, view)


def _open_split(folder: Path, name: str) -> Split:
    images, labels = np.load(folder / f"{name}_images.npy", mmap_mode="r"), np.load(folder / f"{name}_labels.npy")
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"{name}_images.npy holds {images.dtype} {images.shape}")
    if labels.dtype != np.int64 or len(labels) != len(images):
        raise ValueError(f"{name}_labels.npy holds {labels.dtype} {labels.shape} for {len(images)} images")
    return Split(mapped(images), torch.from_numpy(labels))


def _open_masks(folder: Path, name: str, sizes: list[list[int]]) -> MaskedSplit:
    images, labels = (np.load(folder / f"{name}_{part}.npy", mmap_mode="r") for part in Split._fields)
    pairs = torch.tensor(sizes, dtype=torch.int64).view(-1, 2)
    pixels = int(pairs.prod(1).sum())
    if not len(pairs) or pairs.min() < 1 or labels.shape != (pixels,) or len(images) % len(labels):
        raise ValueError(f"{name}_labels.npy holds {labels.shape}, which does not fit the sizes in {FACTS}")
    if images.dtype != np.uint8 or labels.dtype != np.uint8 or images.ndim != 1:
        raise ValueError(f"{name}_images.npy holds {images.dtype} {images.shape}, the masks {labels.dtype}")
    return MaskedSplit.of(mapped(images), mapped(labels), pairs)


def _open_clips(folder: Path, name: str, lengths: list[int]) -> ClipSplit:
    waveforms, labels = np.load(folder / f"{name}_images.npy", mmap_mode="r"), np.load(folder / f"{name}_labels.npy")
    if waveforms.dtype != np.int16 or waveforms.shape != (sum(lengths),) or min(lengths) < 1:
        raise ValueError(f"{name}_images.npy holds {waveforms.dtype} {waveforms.shape}, not the samples of {FACTS}")
    if labels.dtype != np.uint8 or labels.ndim != 2 or len(labels) != len(lengths):
        raise ValueError(f"{name}_labels.npy holds {labels.dtype} {labels.shape} for {len(lengths)} clips")
    return ClipSplit.of(mapped(waveforms), torch.from_numpy(labels).long(), torch.tensor(lengths))


def _check(arrays: Arrays) -> None:
    """Refuse a prepared data set whose parts do not fit each other.

    Raises:
        ValueError: names the part.
    """
    for name, split in arrays.splits.items():
        _check_split(name, split, arrays)
    channels, moments = _channels(arrays.splits["train"]), (*arrays.mean, *arrays.std)
    if len(moments) != 2 * channels or not np.isfinite(moments).all() or min(arrays.std, default=1) <= 0:
        raise ValueError(f"{FACTS}: mean and std must have one value for each of {channels} channels")
    if not all(isinstance(name, str) for name in (*arrays.class_names, arrays.digest)):
        raise ValueError(f"{FACTS}: class names and digest must be strings")


def _channels(split: AnySplit) -> int:
    if isinstance(split, ClipSplit):
        return 0
    if isinstance(split, PictureSplit | FileSplit):
        return 3
    return split.channels if isinstance(split, MaskedSplit) else split.images.shape[1]


def _check_split(name: str, split: AnySplit, arrays: Arrays) -> None:
    train, count = arrays.splits["train"], len(arrays.class_names)
    if split.inputs.shape[1:] != train.inputs.shape[1:]:
        raise ValueError(f"{name}_images.npy holds images of {tuple(split.inputs.shape[1:])}")
    if isinstance(split, ClipSplit) or (isinstance(split, OF_IMAGES) and split.labels.ndim == 2):
        if split.labels.shape[1] != count or not set(split.labels.unique().tolist()) <= {0, 1, 255}:
            raise ValueError(f"{name}_labels.npy holds no tags 0, 1 and 255 of {count} classes")
    elif isinstance(split, OF_IMAGES):  # labels of masks are too many to be read here; the digest covers them
        least = UNLABELLED if name == "train" else 0
        if split.labels.min() < least or split.labels.max() >= count:
            raise ValueError(f"{name}_labels.npy holds labels beyond the {count} classes")
