"""Write a data set as arrays, with its digest, mean and standard deviation."""

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from stkd_lightning.data.array_header import array_header
from stkd_lightning.data.arrays import FACTS, AnyRaw, RawData, RawMasks, RawSplit, files_of
from stkd_lightning.data.clip_arrays import RawClips
from stkd_lightning.data.clip_writer import write_clips
from stkd_lightning.data.decode import listed
from stkd_lightning.data.integrity import record
from stkd_lightning.data.picture_split import RawFiles, RawPictures, identity
from stkd_lightning.data.picture_writer import histogram, kept_labels, write_files, write_pictures
from stkd_lightning.tasks.types import UNLABELLED
from stkd_lightning.utilities.choices import OnError
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.files import atomic_folder

LEAST_STD = 1 / 255  # of the training images, in the channel that varies most


def write(folder: Path, raw: RawData, on_error: OnError | None = None) -> None:
    """Write a data set; the folder appears complete or not at all.

    Args:
        folder: of the prepared data set, locked by the caller.
        raw: the data.
        on_error: as in ``prepare``.

    Raises:
        InputError: a split without images, images that cannot be read, or training images without contrast.
        OSError: the disk is full.
    """
    for name, split in raw.splits.items():
        if not len(split[0]):
            raise InputError(f"dataset {folder.name}: no image in its {name} split")
    try:
        with atomic_folder(folder, locked=True) as partial:
            digest = hashlib.sha256()
            write_splits = _write_images if raw.sample_rate is None else _write_clips
            own = write_splits(partial, raw, digest, on_error)
            known = {name: fact for name, fact in raw._asdict().items() if name != "sample_rate"}
            facts = {**known, "splits": list(raw.splits), **own, "digest": digest.hexdigest()}
            (partial / FACTS).write_text(json.dumps(facts, indent=1))
    except OSError as error:
        if error.errno and not error.filename:  # a full disk names no file
            error.filename = str(folder)
        raise
    for name in files_of(raw.splits):
        (folder / name).chmod(0o444)  # no process can shorten it while a run maps it
    record(folder, raw.splits)


def _write_images(folder: Path, raw: RawData, digest: "hashlib._Hash", on_error: OnError | None) -> dict[str, Any]:
    """Write the splits, and return what is known of them only now: mean, std, and the sizes of images with masks."""
    written = {name: _write(folder, name, split, digest) for name, split in raw.splits.items()}
    counts = {name: pixels for name, (pixels, _) in written.items()}
    _check_readable(folder.name, raw, on_error)
    mean, std = _moments(counts["train"])
    if max(std) < LEAST_STD:
        raise InputError(
            f"dataset {folder.name}: all pixels of its train split have almost the same value (standard deviation "
            f"{255 * max(std):.2f} of 255 levels); look at the image files"
        )
    sizes = {name: own.tolist() for name, (_, own) in written.items() if own is not None}
    facts: dict[str, Any] = {"mean": mean, "std": std} | ({"sizes": sizes} if sizes else {})
    kinds = RawSplit | RawPictures | RawFiles
    left_out = {name: sorted(s.unreadable) for name, s in raw.splits.items() if isinstance(s, kinds) and s.unreadable}
    facts |= {"unreadable": left_out} if left_out else {}
    first = raw.splits["train"]
    if isinstance(first, RawPictures | RawFiles):
        digest.update(identity(first.view, streamed=isinstance(first, RawFiles)))
        facts["view"] = first.view
    return facts | ({"root": str(first.root.resolve())} if isinstance(first, RawFiles) else {})


def _write_clips(folder: Path, raw: RawData, digest: "hashlib._Hash", on_error: OnError | None) -> dict[str, Any]:
    """Write the splits, and return what is known of them only now: the length of each clip."""
    splits = {name: cast(RawClips, split) for name, split in raw.splits.items()}
    lengths = {name: write_clips(folder, name, split, digest) for name, split in splits.items()}
    return {"mean": [], "std": [], "sample_rate": raw.sample_rate, "lengths": lengths}


def _check_readable(name: str, raw: RawData, on_error: OnError | None) -> None:
    """Refuse images that could not be read, or say how many are left out.

    Raises:
        InputError: names the images, or a class of which none is left.
    """
    kinds = RawSplit | RawPictures | RawFiles
    splits = {name: split for name, split in raw.splits.items() if isinstance(split, kinds)}
    errors = [error for split in splits.values() for error in split.unreadable.values()]
    if not errors:
        return
    if on_error != "skip":
        advice = ", or set dataset.on_error=skip" if on_error else ""
        if len(errors) == 1:
            raise InputError(f"{errors[0]}{advice}")
        raise InputError(f"{len(errors):,} images cannot be read: {listed(errors)}; replace or delete them{advice}")
    for part, split in splits.items():
        if np.ndim(split.labels) > 1:  # tags
            continue
        for label in sorted({*np.unique(split.labels)} - {*np.unique(kept_labels(split)), UNLABELLED}):
            raise InputError(
                f"dataset {name}: no image of class {raw.class_names[label]} in its {part} split can be read: "
                f"{listed(errors)}; replace them"
            )
    total = sum(len(split.labels) for split in splits.values())
    print_rank_zero(
        f"dataset {name}: left out {len(errors):,} of {total:,} images, which cannot be read: {listed(errors)}"
    )


def _write(
    folder: Path, name: str, split: AnyRaw, digest: "hashlib._Hash"
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Write a split, and update the digest.

    Returns:
        The number of pixels ``(C, 256)`` by channel and value, and the sizes ``(N, 2)`` where images have unequal ones.
    """
    if isinstance(split, RawMasks):
        return _write_masks(folder, name, split, digest), split.sizes
    if isinstance(split, RawPictures):
        return write_pictures(folder, name, split, digest)
    if isinstance(split, RawFiles):
        return write_files(folder, name, split, digest), None
    return _write_split(folder, name, cast(RawSplit, split), digest), None


def _write_split(folder: Path, name: str, split: RawSplit, digest: "hashlib._Hash") -> NDArray[np.int64]:
    """Write images of one size with their labels."""
    counts = np.zeros((split.shape[0], 256), dtype=np.int64)
    written = 0
    # Written to the file, not to a memory map: on a full disk a write to the map would kill the process.
    with (folder / f"{name}_images.npy").open("wb") as file:
        file.write(array_header((len(split.labels), *split.shape)))
        for chunk in split.images:
            if chunk.dtype != np.uint8 or chunk.shape[1:] != split.shape:
                raise ValueError(f"{name}: images {chunk.dtype} {chunk.shape}, not uint8 (n, *{split.shape})")
            content = np.ascontiguousarray(chunk).data
            file.write(content)
            digest.update(content)
            written += len(chunk)
            counts += histogram(chunk.swapaxes(0, 1))
        labels = kept_labels(split)
        file.seek(0)
        file.write(array_header((len(labels), *split.shape)))
    if written != len(labels):
        raise ValueError(f"{name}: {written} images for {len(labels)} labels")
    digest.update(labels.tobytes())
    np.save(folder / f"{name}_labels.npy", labels)
    return counts


def _write_masks(folder: Path, name: str, split: RawMasks, digest: "hashlib._Hash") -> NDArray[np.int64]:
    """Write images and masks of any sides in a row each."""
    counts = np.zeros((split.channels, 256), dtype=np.int64)
    pixels, written = int(split.sizes.prod(1).sum()), 0
    masks = folder / f"{name}_labels.npy"
    with (folder / f"{name}_images.npy").open("wb") as images_file, masks.open("wb") as masks_file:
        images_file.write(array_header((split.channels * pixels,)))
        masks_file.write(array_header((pixels,)))
        for image, mask in split.samples:
            if written == len(split.sizes) or (split.channels, *mask.shape) != image.shape:
                raise ValueError(f"{name}: image {image.shape} with mask {mask.shape}, {written} written")
            if mask.shape != tuple(split.sizes[written]) or image.dtype != np.uint8 or mask.dtype != np.uint8:
                raise ValueError(f"{name}: mask {mask.dtype} {mask.shape}, not uint8 {split.sizes[written]}")
            for file, content in ((images_file, image), (masks_file, mask)):
                file.write(np.ascontiguousarray(content).data)
            digest.update(np.ascontiguousarray(image).data)
            counts += histogram(image)
            written += 1
    if written != len(split.sizes):
        raise ValueError(f"{name}: {written} images for {len(split.sizes)} sizes")
    digest.update(np.load(masks, mmap_mode="r").data)
    digest.update(np.ascontiguousarray(split.sizes, dtype=np.int64).data)
    return counts


def _moments(counts: NDArray[np.int64]) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of the channels, in units of 1."""
    levels = np.arange(256) / 255
    total = np.maximum(counts.sum(1), 1)
    mean = counts @ levels / total
    std = np.sqrt(np.maximum(counts @ levels**2 / total - mean**2, 0))
    return mean.tolist(), np.maximum(std, 1e-6).tolist()
