"""Speed of loaders of photographs at 224 pixels, without networks: ours, streamed and prepared, and torchvision's."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode, v2

from stkd_lightning.data import Augment, ImageFolderDataModule

SIDES = (375, 500)  # of most photographs of ImageNet
BATCH = 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Loader = Callable[[], Iterable[Any]]


def write_photographs(folder: Path, count: int) -> None:
    """Write JPEGs of two classes: parts of the two photographs of scikit-learn."""
    random = np.random.default_rng(0)
    for label, photograph in enumerate(load_sample_images().images):
        (folder / str(label)).mkdir(parents=True)
        for i in range(count // 2):
            top = random.integers(photograph.shape[0] - SIDES[0] + 1)
            left = random.integers(photograph.shape[1] - SIDES[1] + 1)
            part = Image.fromarray(photograph[top : top + SIDES[0], left : left + SIDES[1]])
            part.save(folder / str(label) / f"{i}.jpg", quality=90)


def torchvision_loader(folder: Path, workers: int) -> Loader:
    """Return batches as torchvision's training reference makes them."""
    steps = [
        v2.RandomResizedCrop(224, interpolation=InterpolationMode.BICUBIC),
        v2.RandomHorizontalFlip(),
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ]
    loader = DataLoader(ImageFolder(str(folder), v2.Compose(steps)), BATCH, shuffle=True, num_workers=workers)
    return lambda: loader


def our_loader(folder: Path, cache: Path, storage: Any, workers: int) -> Loader:
    """Return our batches with the same crops."""
    data = ImageFolderDataModule(
        folder, image_size=224, batch_size=BATCH, storage=storage, augment=Augment(crop_scale=(0.08, 1.0)),
        workers=workers, cache_dir=cache, validation_fraction=0, test_fraction=0.01,
    )  # fmt: skip
    data.prepare_data()
    return data.train_dataloader


def images_per_second(loader: Loader) -> float:
    """Return the speed of an epoch after its first batch."""
    batches = iter(loader())
    next(batches)
    start, count = time.perf_counter(), 0
    for batch in batches:
        count += len(batch[0])
    return count / (time.perf_counter() - start)


def photographs(folder: Path, count: int, rounds: int, workers: int) -> dict[str, dict[str, float]]:
    """Return speed and disk by loader, measured in turn; the ratio is to torchvision's in the same round.

    Args:
        folder: for the photographs and the cache.
        count: number of photographs.
        rounds: epochs of each loader.
        workers: processes of each loader.
    """
    write_photographs(folder / "photographs", count)
    loaders = {"torchvision": torchvision_loader(folder / "photographs", workers)}
    for storage in ("streamed", "prepared"):
        loaders[storage] = our_loader(folder / "photographs", folder / f"cache_{storage}", storage, workers)
    speeds = [{name: images_per_second(loader) for name, loader in loaders.items()} for _ in range(rounds)]
    return {
        name: {
            "images_per_second": median(speed[name] for speed in speeds),
            "ratio": median(speed[name] / speed["torchvision"] for speed in speeds),
            "disk_mib": _size(folder / f"cache_{name}") / 2**20,
        }
        for name in loaders
    }


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
