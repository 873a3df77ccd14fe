"""CIFAR-100 as lossless WebP strips: half the size of its pickles, to be carried in parts."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stkd_lightning.data.archives.cifar_pickle import image_rows, name_list, read_pickle
from stkd_lightning.utilities.files import atomic_folder, write_json

FOLDER = "cifar-100-python"
STRIP = 500  # images of 32x32, one below the other; WebP has at most 16,383 rows
NAMES = ("fine_label_names", "coarse_label_names")


def write_strips(official: Path, folder: Path) -> None:
    """Write the official files as strips and labels.

    Raises:
        InputError: a file is missing or damaged.
    """
    with atomic_folder(folder) as partial:
        labels: dict[str, Any] = {key: name_list(official / "meta", key) for key in NAMES}
        for split in ("train", "test"):
            content = read_pickle(official / split)
            images, fine = image_rows(official / split, content, "fine_labels")
            labels[split] = {"fine_labels": fine, "coarse_labels": [int(label) for label in content["coarse_labels"]]}
            pixels = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
            for number, start in enumerate(range(0, len(pixels), STRIP)):
                strip = Image.fromarray(pixels[start : start + STRIP].reshape(-1, 32, 3))
                strip.save(partial / f"{split}-{number:03d}.webp", lossless=True, method=5, quality=75)
        write_json(partial / "labels.json", labels)


def read_strips(folder: Path, official: Path) -> None:
    """Write strips and labels as the official files."""
    labels = json.loads((folder / "labels.json").read_text())
    with atomic_folder(official) as partial:
        _dump(partial / "meta", {key: labels[key] for key in NAMES})
        for split in ("train", "test"):
            strips = [np.asarray(Image.open(path)) for path in sorted(folder.glob(f"{split}-*.webp"))]
            pixels = np.concatenate(strips).reshape(-1, 32, 32, 3)
            data = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).reshape(len(pixels), -1)
            _dump(partial / split, {**labels[split], "data": data})


def _dump(path: Path, content: dict[str, Any]) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))
