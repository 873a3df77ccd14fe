"""CIFAR-100 for all trainings; if it is missing, noise of the same shape, at the same cost."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from stkd_lightning.data import ArrayDataModule, CIFAR100DataModule
from stkd_lightning.data.arrays import RawData, RawSplit


class NoiseDataModule(ArrayDataModule):
    """Data module with noise of CIFAR-100's shape.

    Args:
        data_dir: ignored.
        count: number of training images.
        options: options of ``ArrayDataModule``.
    """

    name = "noise"

    def __init__(self, data_dir: str | Path = "data", *, count: int = 50_000, **options: Any) -> None:
        super().__init__(data_dir, **options)
        self.count = count

    def options(self) -> dict[str, object]:
        return {"count": self.count}

    def locate(self) -> Path:
        self.cache.mkdir(parents=True, exist_ok=True)
        return self.cache

    def stamps(self, folder: Path) -> list[Path]:
        return []

    def read(self, folder: Path) -> RawData:
        random = np.random.default_rng(0)

        def chunks(count: int) -> Iterator[NDArray[np.uint8]]:
            for start in range(0, count, 10_000):
                yield random.integers(0, 256, (min(10_000, count - start), 3, 32, 32), dtype=np.uint8)

        def split(count: int) -> RawSplit:
            return RawSplit([i % 100 for i in range(count)], chunks(count), (3, 32, 32))

        return RawData({"train": split(self.count), "test": split(10_000)}, [f"class {i}" for i in range(100)])


def data_module(**options: Any) -> ArrayDataModule:
    """Return CIFAR-100 from ``$STKD_DATA`` or ``data``; if it is missing, noise."""
    folder = Path(os.environ.get("STKD_DATA", "data"))
    if (folder / "cifar-100-python").is_dir():
        return CIFAR100DataModule(folder, **options)
    return NoiseDataModule(folder, **options)


class Images(Dataset[tuple[Tensor, int]]):
    """Data set of the literature's code: one image at a time, with Pillow and torchvision's transforms.

    Args:
        images: ``(N, 3, 32, 32)`` uint8.
        labels: ``(N,)``.
        mean: mean of each channel, of values in [0, 1].
        std: standard deviation of each channel.
    """

    def __init__(
        self, images: NDArray[np.uint8], labels: NDArray[np.int64], mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self.images, self.labels = np.ascontiguousarray(images.transpose(0, 2, 3, 1)), labels
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[i])), int(self.labels[i])


def dataset() -> Images:
    """Return the training images."""
    module = data_module()
    split = module.arrays.splits["train"]
    return Images(split.inputs.numpy(), split.labels.numpy(), module.mean, module.std)


def loader(batch_size: int, images: Images | None = None) -> DataLoader:
    """Return the literature's loader, with one worker per core."""
    return DataLoader(
        dataset() if images is None else images,
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=len(os.sched_getaffinity(0)),
        persistent_workers=True,
    )
