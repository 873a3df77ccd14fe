"""A small task of another shape than classification: a class for each pixel of 8x8 images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor, nn
from torchmetrics import MeanMetric

from stkd_lightning.data import ArrayDataModule, RawData, RawSplit
from stkd_lightning.tasks import Column, Metrics, Score, Task

CLASSES = ["red", "green", "blue"]


class PixelMetrics(Metrics):
    """Share of pixels with the right class, and of those where student and teacher agree."""

    def __init__(self) -> None:
        super().__init__()
        self.accuracy, self.teacher, self.agreement = MeanMetric(), MeanMetric(), MeanMetric()

    def update(self, student: Tensor, labels: Tensor, teacher: Tensor | None = None) -> None:
        predicted = student.argmax(1)
        self.accuracy.update((predicted == labels).float())
        if teacher is not None:
            self.teacher.update((teacher.argmax(1) == labels).float())
            self.agreement.update((teacher.argmax(1) == predicted).float())

    def compute(self, *, with_teacher: bool) -> dict[str, Tensor]:
        values = {"pixel_accuracy": self.accuracy.compute()}
        if with_teacher:
            values |= {"teacher_pixel_accuracy": self.teacher.compute(), "agreement": self.agreement.compute()}
        return values

    def reset(self) -> None:
        for metric in (self.accuracy, self.teacher, self.agreement):
            metric.reset()


@dataclass(frozen=True)
class Pixels(Task):
    """Labels ``(B, H, W)``, logits ``(B, K, H, W)``."""

    score = Score("pixel_accuracy")
    columns = (Column("pixels", "pixel_accuracy"), Column("selected", "pixel_accuracy", student="selected"))

    def metrics(self) -> PixelMetrics:
        return PixelMetrics()

    def logits_shape(self, num_classes: int, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (num_classes, *input_shape[-2:])

    def least_score(self, num_classes: int) -> float:
        return 1.2 / num_classes


class PixelsDataModule(ArrayDataModule):
    """Noise whose strongest colour is the class of each pixel, seen through more noise."""

    name = "pixels"

    @property
    def task(self) -> Pixels:
        return Pixels()

    def locate(self) -> Path:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        return self.data_dir

    def stamps(self, folder: Path) -> list[Path]:
        return []

    def read(self, folder: Path) -> RawData:
        random = np.random.default_rng(0)

        def split(count: int) -> RawSplit:
            labels = random.integers(0, 3, (count, 8, 8))
            images = random.integers(0, 160, (count, 3, 8, 8)) + 90 * (labels[:, None] == np.arange(3)[:, None, None])
            return RawSplit(labels, [images.astype(np.uint8)], (3, 8, 8))

        return RawData({"train": split(96), "val": split(32), "test": split(32)}, CLASSES)


class PixelNetwork(nn.Module):
    """Two convolutions; keeps the size of the image."""

    def __init__(self, width: int, num_classes: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.second = nn.Conv2d(width, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.second(self.first(images).relu())
