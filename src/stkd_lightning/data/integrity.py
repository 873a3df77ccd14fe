"""The stored digest of prepared data, compared with their files once for each stamp of the files."""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from stkd_lightning.data.arrays import FACTS, Arrays, ClipSplit, MaskedSplit, Stamp, files_of, stamp_of
from stkd_lightning.data.picture_split import FileSplit, PictureSplit, identity
from stkd_lightning.utilities.files import write_json
from stkd_lightning.utilities.paths import cache_root, key_of

RECORD = "verified.json"
CHUNK_BYTES = 1 << 26
SECOND = 1_000_000_000  # in units of the recorded times

_unrecorded: dict[Path, dict[str, Stamp]] = {}  # known to this process only, where no record can be written


def record(folder: Path, splits: Iterable[str]) -> None:
    """Write the stamps with which the files of a prepared data set are known to fit its digest.

    The record is in the folder; for a folder that cannot be written it is in the user's own cache, and if that cannot
    be written either, this process remembers the stamps.
    """
    stamps = {name: stamp_of(folder / name) for name in files_of(splits)}
    for path in _records(folder):
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"stamps": stamps, FACTS: _facts_digest(folder)})
            return
    _unrecorded[folder] = stamps


def is_recorded(arrays: Arrays) -> bool:
    """Return whether the files have the recorded sizes and times; their content is not read.

    A copy has other inodes, and one in a disk image or an archive may have times in whole seconds: both are accepted.
    """
    known = [_recorded(path).get("stamps") for path in _records(arrays.folder)]
    return any(_fit(stamps, arrays.stamps) for stamps in (*known, _unrecorded.get(arrays.folder)))


def _fit(known: Any, stamps: dict[str, Stamp]) -> bool:
    try:
        times = {name: ((size, time), (size, time - time % SECOND)) for name, (size, time, _) in known.items()}
    except (AttributeError, TypeError, ValueError):  # no record, or a damaged one
        return False
    return times.keys() == stamps.keys() and all(stamps[name][:2] in times[name] for name in times)


def is_intact(arrays: Arrays) -> bool:
    """Return whether the files have the stored digest; if they do, the stamps are recorded.

    The digest covers pixels and labels. The record, where there is one, has a digest of the description.
    """
    known = _recorded(arrays.folder / RECORD).get(FACTS)
    if known not in (None, _facts_digest(arrays.folder)) or _digest(arrays) != arrays.digest:
        return False
    record(arrays.folder, arrays.splits)
    return True


def _records(folder: Path) -> list[Path]:
    """Return the places of a record, the first choice first."""
    records = [folder / RECORD]
    with suppress(RuntimeError):  # the user has no home
        records.append(cache_root() / "verified" / f"{key_of(str(folder.resolve()))}.json")
    return records


def _recorded(record: Path) -> dict[str, Any]:
    try:
        content = json.loads(record.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _facts_digest(folder: Path) -> str:
    return hashlib.sha256((folder / FACTS).read_bytes()).hexdigest()


def _digest(arrays: Arrays) -> str:
    """Return the digest of all pixels and labels, as ``prepare`` computes it."""
    digest = hashlib.sha256()
    size = sum(split.inputs.nbytes for split in arrays.splits.values())
    with tqdm(total=size, desc="prepared data", unit="B", unit_scale=True, leave=False, disable=None) as bar:
        for split in arrays.splits.values():
            pixels: NDArray[Any] = split.inputs.numpy()
            count = max(1, CHUNK_BYTES // pixels[0].nbytes)
            for first in range(0, len(pixels), count):
                digest.update(pixels[first : first + count].data)
                bar.update(pixels[first : first + count].nbytes)
            if isinstance(split, ClipSplit):  # labels are stored as bytes
                digest.update(split.labels.numpy().astype(np.uint8).data)
                digest.update(split.lengths.numpy().data)
                continue
            digest.update(split.labels.numpy().data)
            if isinstance(split, MaskedSplit | PictureSplit):
                digest.update(split.sizes.numpy().data)
    train = arrays.splits["train"]
    if isinstance(train, PictureSplit | FileSplit):
        digest.update(identity(train.view, streamed=isinstance(train, FileSplit)))
    return digest.hexdigest()
