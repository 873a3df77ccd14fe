"""Small sets of sound files with tags: tones of three pitches."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

PITCHES = {"low": 300.0, "middle": 900.0, "high": 2500.0}  # Hz
RATE = 8000


def tones(tags: Sequence[str], seconds: float, seed: int, rate: int = RATE) -> NDArray[np.float32]:
    """Return a tone for each tag, with a random phase and loudness, on faint noise."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    clip = 0.01 * random.standard_normal(len(time))
    for tag in tags:
        clip += random.uniform(0.1, 0.25) * np.sin(2 * np.pi * PITCHES[tag] * time + random.uniform(0, 6))
    return clip.astype(np.float32)


def tags_of(i: int) -> list[str]:
    """Return one of the eight sets of tags."""
    return [tag for bit, tag in enumerate(PITCHES) if (i % 8) >> bit & 1]


def write_sounds(
    folder: Path, counts: Mapping[str, int], seconds: Sequence[float] = (0.5,), rate: int = RATE
) -> dict[str, list[list[str]]]:
    """Write ``labels.csv`` and its wav files, and return the tags of each split."""
    folder.mkdir(parents=True, exist_ok=True)
    tags: dict[str, list[list[str]]] = {split: [] for split in counts}
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "tags", "split"])
        for number, (split, count) in enumerate(counts.items()):
            (folder / split).mkdir()
            for i in range(count):
                name = f"{split}/{i}.wav"
                clip = tones(tags_of(i), seconds[i % len(seconds)], 1000 * number + i, rate)
                soundfile.write(folder / name, clip, rate, subtype="PCM_16")
                rows.writerow([name, ";".join(tags_of(i)), split])
                tags[split].append(tags_of(i))
    return tags
