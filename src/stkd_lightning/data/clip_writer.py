"""Write a split of clips as one row of 16-bit samples."""

import hashlib
from pathlib import Path

import numpy as np

from stkd_lightning.data.array_header import array_header
from stkd_lightning.data.clip_arrays import RawClips

KIND = "<i2"  # 16-bit samples


def write_clips(folder: Path, name: str, split: RawClips, digest: "hashlib._Hash") -> list[int]:
    """Write the waveforms and tags of a split, update the digest, and return the length of each clip.

    Raises:
        ValueError: clips of another kind, or of another number than the tags.
    """
    lengths: list[int] = []
    with (folder / f"{name}_images.npy").open("wb") as file:
        file.write(array_header((0,), KIND))
        for clip in split.clips:
            if clip.dtype != np.int16 or clip.ndim != 1 or not len(clip):
                raise ValueError(f"{name}: clip {clip.dtype} {clip.shape}, not int16 (t,)")
            content = np.ascontiguousarray(clip, dtype=KIND).data
            file.write(content)
            digest.update(content)
            lengths.append(len(clip))
        file.seek(0)
        file.write(array_header((sum(lengths),), KIND))
    if len(lengths) != len(split.labels):
        raise ValueError(f"{name}: {len(lengths)} clips for {len(split.labels)} rows of tags")
    labels = np.ascontiguousarray(split.labels, dtype=np.uint8)
    np.save(folder / f"{name}_labels.npy", labels)
    digest.update(labels.data)
    digest.update(np.array(lengths, dtype=np.int64).data)
    return lengths
