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

from stkd_lightning.data.arrays import FACTS, Arrays, files_of, stamp_of
from stkd_lightning.utilities.files import write_json

RECORD = "verified.json"
CHUNK_BYTES = 1 << 26


def record(folder: Path, splits: Iterable[str]) -> None:
    """Write the stamps with which the files of a prepared data set are known to fit its digest, if the disk allows."""
    stamps = {name: stamp_of(folder / name) for name in files_of(splits)}
    with suppress(OSError):  # compared again next time
        write_json(folder / RECORD, {"stamps": stamps, FACTS: _facts_digest(folder)})


def is_recorded(arrays: Arrays) -> bool:
    """Return whether the files have the recorded stamps; their content is not read."""
    stamps = {name: list(stamp) for name, stamp in arrays.stamps.items()}
    return bool(_recorded(arrays.folder).get("stamps") == stamps)


def is_intact(arrays: Arrays) -> bool:
    """Return whether the files have the stored digest; if they do, the stamps are recorded.

    The digest covers pixels and labels. The record, where there is one, has a digest of the description.
    """
    known = _recorded(arrays.folder).get(FACTS)
    if known not in (None, _facts_digest(arrays.folder)) or _digest(arrays) != arrays.digest:
        return False
    record(arrays.folder, arrays.splits)
    return True


def _recorded(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _facts_digest(folder: Path) -> str:
    return hashlib.sha256((folder / FACTS).read_bytes()).hexdigest()


def _digest(arrays: Arrays) -> str:
    """Return the digest of all pixels and labels, as ``prepare`` computes it."""
    digest = hashlib.sha256()
    size = sum(split.images.nbytes for split in arrays.splits.values())
    with tqdm(total=size, desc="prepared data", unit="B", unit_scale=True, leave=False, disable=None) as bar:
        for images, labels in arrays.splits.values():
            pixels: NDArray[np.uint8] = images.numpy()
            count = max(1, CHUNK_BYTES // pixels[0].nbytes)
            for first in range(0, len(pixels), count):
                digest.update(pixels[first : first + count].data)
                bar.update(pixels[first : first + count].nbytes)
            digest.update(labels.numpy().tobytes())
    return digest.hexdigest()
