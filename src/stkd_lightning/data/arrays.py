"""Whole splits as memory-mapped uint8 arrays, written once."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

FORMAT = 2


class RawSplit(NamedTuple):
    """A split on its way to disk.

    Attributes:
        labels: one class index per image.
        images: chunks ``(n, C, H, W)`` uint8, in the labels' order.
        shape: ``(C, H, W)``.
    """

    labels: list[int]
    images: Iterable[NDArray[np.uint8]]
    shape: tuple[int, int, int]


class RawData(NamedTuple):
    """A data set on its way to disk.

    Attributes:
        splits: by name: ``train`` and ``test``, perhaps ``val``.
        class_names: in the order of the labels.
        superclasses: index of each class's superclass; ``None`` where the data declare none.
        superclass_names: in the order of those indices.
    """

    splits: dict[str, RawSplit]
    class_names: list[str]
    superclasses: list[int] | None = None
    superclass_names: list[str] | None = None


class Split(NamedTuple):
    """Images ``(N, C, H, W)`` uint8, memory-mapped, and labels ``(N,)`` int64."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Arrays:
    """A prepared data set.

    Attributes:
        splits: by name.
        class_names: in the order of the labels.
        superclasses: index of each class's superclass; ``None`` where the data declare none.
        superclass_names: in the order of those indices.
        mean: of each channel of the training images, in units of 1.
        std: likewise.
        digest: of all pixels and labels, the same wherever the data lie.
        folder: where it lies.
    """

    splits: dict[str, Split]
    class_names: tuple[str, ...]
    superclasses: tuple[int, ...] | None
    superclass_names: tuple[str, ...] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    folder: Path


def open_arrays(folder: Path) -> Arrays:
    """Open a prepared data set; reads its description and no pixel."""
    facts: dict[str, Any] = json.loads((folder / "facts.json").read_text())
    facts = {name: tuple(fact) if isinstance(fact, list) else fact for name, fact in facts.items()}
    facts["splits"] = {
        name: Split(np.load(folder / f"{name}_images.npy", mmap_mode="r"), np.load(folder / f"{name}_labels.npy"))
        for name in facts["splits"]
    }
    return Arrays(**facts, folder=folder)


def prepare(folder: Path, read: Callable[[], RawData]) -> Arrays:
    """Open a prepared data set; where there is none, write it first.

    Written aside and renamed when whole; parallel jobs wait for the one that writes.

    Args:
        folder: where it lies or will lie.
        read: gives the raw data; called only if they are needed.
    """
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not folder.exists():
                _write(folder, read())
    return open_arrays(folder)


def _write(folder: Path, raw: RawData) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        digest = hashlib.sha256()
        moments = {name: _write_split(partial, name, split, digest) for name, split in raw.splits.items()}
        mean, std = moments["train"]
        facts = {**raw._asdict(), "splits": list(raw.splits), "mean": mean, "std": std, "digest": digest.hexdigest()}
        (partial / "facts.json").write_text(json.dumps(facts, indent=1))
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_split(folder: Path, name: str, split: RawSplit, digest: "hashlib._Hash") -> tuple[list[float], list[float]]:
    """Write a split, add it to the digest, and return mean and standard deviation of its channels."""
    shape = (len(split.labels), *split.shape)
    images = np.lib.format.open_memmap(folder / f"{name}_images.npy", mode="w+", dtype=np.uint8, shape=shape)
    counts = np.zeros((split.shape[0], 256), dtype=np.int64)
    at = 0
    for chunk in split.images:
        images[at : at + len(chunk)] = chunk
        digest.update(chunk.tobytes())
        at += len(chunk)
        for channel in range(split.shape[0]):
            counts[channel] += np.bincount(chunk[:, channel].ravel(), minlength=256)
    images.flush()
    labels = np.asarray(split.labels, dtype=np.int64)
    digest.update(labels.tobytes())
    np.save(folder / f"{name}_labels.npy", labels)
    levels = np.arange(256) / 255
    mean = counts @ levels / counts.sum(1)
    std = np.sqrt(counts @ levels**2 / counts.sum(1) - mean**2)
    return mean.tolist(), np.maximum(std, 1e-6).tolist()
