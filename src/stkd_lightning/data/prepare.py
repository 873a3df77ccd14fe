"""Write a data set once as memory-mapped arrays."""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from stkd_lightning.data.arrays import FACTS, Arrays, RawData, RawSplit, files_of, open_arrays
from stkd_lightning.data.integrity import is_intact, is_recorded, record
from stkd_lightning.utilities.cache import locked, mark_used, set_aside
from stkd_lightning.utilities.errors import InputError, reason
from stkd_lightning.utilities.files import atomic_folder

CHANGED = "changed after it was written"
LEAST_STD = 1 / 255  # of the training images, in the channel that varies most


def prepare(folder: Path, read: Callable[[], RawData]) -> Arrays:
    """Open a prepared data set; write it first if it does not exist, is damaged or was changed.

    The folder appears complete or not at all; parallel jobs wait for the job that writes it.

    Args:
        folder: of the prepared data set.
        read: returns the raw data; called only if the data set is written.

    Raises:
        InputError: a split without images, or a cache that cannot be written but has to be.
        OSError: the data cannot be written, for example because the disk is full.
    """
    arrays = _opened(folder)
    if arrays is None or not is_recorded(arrays):
        if arrays is not None and not os.access(folder.parent, os.W_OK):  # a cache that others filled
            if not is_intact(arrays):
                raise InputError(f"prepared data {folder}: {CHANGED}; set another cache_dir")
        else:
            with locked(folder):
                if (arrays := _intact(folder)) is None:
                    _write(folder, read())
                    arrays = open_arrays(folder)
    mark_used(folder)
    return arrays


def _opened(folder: Path) -> Arrays | None:
    """Return a prepared data set; ``None`` if there is none or it is damaged."""
    with suppress(InputError):
        return open_arrays(folder)
    return None


def _intact(folder: Path) -> Arrays | None:
    """Return a prepared data set; ``None`` if there is none. One that is damaged or was changed is set aside."""
    if not folder.exists():
        return None
    cause = CHANGED
    try:
        arrays = open_arrays(folder)
        if is_recorded(arrays) or is_intact(arrays):
            return arrays
    except InputError as error:
        cause = reason(error.__cause__ or error)
    set_aside(folder, cause)
    return None


def _write(folder: Path, raw: RawData) -> None:
    for name, split in raw.splits.items():
        if not len(split.labels):
            raise InputError(f"dataset {folder.name}: no image in its {name} split")
    try:
        with atomic_folder(folder, locked=True) as partial:
            digest = hashlib.sha256()
            moments = {name: _write_split(partial, name, split, digest) for name, split in raw.splits.items()}
            mean, std = moments["train"]
            if max(std) < LEAST_STD:
                raise InputError(
                    f"dataset {folder.name}: all pixels of its train split have almost the same value (standard "
                    f"deviation {255 * max(std):.2f} of 255 levels); look at the image files"
                )
            digits = digest.hexdigest()
            facts = {**raw._asdict(), "splits": list(raw.splits), "mean": mean, "std": std, "digest": digits}
            (partial / FACTS).write_text(json.dumps(facts, indent=1))
    except OSError as error:
        if error.errno and not error.filename:  # a full disk names no file
            error.filename = str(folder)
        raise
    for name in files_of(raw.splits):
        (folder / name).chmod(0o444)  # no process can shorten it while a run maps it
    record(folder, raw.splits)


def _write_split(folder: Path, name: str, split: RawSplit, digest: "hashlib._Hash") -> tuple[list[float], list[float]]:
    """Write a split, update the digest, and return mean and standard deviation of the channels."""
    shape = (len(split.labels), *split.shape)
    counts = np.zeros((split.shape[0], 256), dtype=np.int64)
    written = 0
    # Written to the file, not to a memory map: on a full disk a write to the map would kill the process.
    with (folder / f"{name}_images.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for chunk in split.images:
            if chunk.dtype != np.uint8 or chunk.shape[1:] != split.shape:
                raise ValueError(f"{name}: images {chunk.dtype} {chunk.shape}, not uint8 (n, *{split.shape})")
            content = np.ascontiguousarray(chunk).data
            file.write(content)
            digest.update(content)
            written += len(chunk)
            for channel in range(split.shape[0]):
                counts[channel] += np.bincount(chunk[:, channel].ravel(), minlength=256)
    if written != len(split.labels):
        raise ValueError(f"{name}: {written} images for {len(split.labels)} labels")
    labels = np.asarray(split.labels, dtype=np.int64)
    digest.update(labels.tobytes())
    np.save(folder / f"{name}_labels.npy", labels)
    levels = np.arange(256) / 255
    mean = counts @ levels / counts.sum(1)
    std = np.sqrt(np.maximum(counts @ levels**2 / counts.sum(1) - mean**2, 0))
    return mean.tolist(), np.maximum(std, 1e-6).tolist()
