"""Semantic segmentation: a class for each pixel."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from stkd_lightning.tasks.base import ClassMetric, Column, Score, Task
from stkd_lightning.tasks.segmentation_metrics import CLASS_IOU, IGNORED, SegmentationMetrics
from stkd_lightning.tasks.types import MixedTarget
from stkd_lightning.utilities.errors import InputError


@dataclass(frozen=True)
class Segmentation(Task):
    """Labels ``(B, H, W)``, logits ``(B, K, H, W)``; the mean intersection over union (mIoU) selects.

    A pixel of label 255 has no class and is ignored.

    Attributes:
        class_names: in the order of the labels.
        class_weights: of the classes in the cross-entropy with the label; ``None``: all are equal.
        window: height and width of the windows in which larger images are evaluated; ``None``: images as a whole.

    Raises:
        InputError: fewer than two classes.
    """

    class_names: tuple[str, ...]
    class_weights: tuple[float, ...] | None = None
    window: tuple[int, int] | None = None

    name = "segmentation"
    score = Score("miou")
    columns = (
        Column("mIoU", "miou"),
        Column("selected", "miou", student="selected"),
        Column("pixels", "pixel_accuracy"),
        Column("image IoU", "image_quality"),
        Column("agree", "agreement"),
    )
    of_classes = ClassMetric(CLASS_IOU, "IoU")
    has_pictures = True
    dense = True

    def __post_init__(self) -> None:
        if len(self.class_names) < 2:
            raise InputError(f"segmentation: needs 2 classes or more, not {len(self.class_names)}; name the background")

    def metrics(self) -> SegmentationMetrics:
        """Return new ``SegmentationMetrics``."""
        return SegmentationMetrics(self.class_names)

    def logits_shape(self, num_classes: int, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return ``(K, H, W)``."""
        return (num_classes, *input_shape[-2:])

    def least_score(self, num_classes: int) -> float:
        """Return 1 / K, which no prediction of a single class exceeds."""
        return 1 / num_classes

    def target(self, labels: Tensor, weights: Tensor) -> MixedTarget:
        """Return the target of mixed images, with labels ``(B, k, H, W)`` and weights ``(B, k)``."""
        if self.class_weights is None:
            return MixedTarget(labels, weights, ignored=IGNORED)
        # Filled on the device: a copy from the host would wait, and keep a step from a CUDA graph.
        classes = torch.stack([torch.full((), weight, device=labels.device) for weight in self.class_weights])
        return MixedTarget(labels, weights, ignored=IGNORED, class_weights=classes)

    def infer(self, network: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """Return the logits of images of any sides; see ``sliding_window``."""
        return network(inputs) if self.window is None else sliding_window(network, inputs, self.window)


def sliding_window(network: Callable[[Tensor], Tensor], images: Tensor, window: tuple[int, int]) -> Tensor:
    """Average a network's logits over windows that overlap by a third at least and cover the images.

    Args:
        network: images to logits ``(B, K, h, w)`` of the same sides.
        images: ``(B, C, H, W)``.
        window: height and width; images that are not larger are seen as a whole in this direction.

    Returns:
        ``(B, K, H, W)``.
    """
    (height, width), sides = images.shape[2:], [min(pair) for pair in zip(window, images.shape[2:], strict=True)]
    if (height, width) == tuple(sides):
        return network(images)
    total: Tensor | None = None
    count = images.new_zeros(height, width)
    for top, left in product(_starts(height, sides[0]), _starts(width, sides[1])):
        part = ..., slice(top, top + sides[0]), slice(left, left + sides[1])
        logits = network(images[part])
        if total is None:
            total = logits.new_zeros(*logits.shape[:2], height, width)
        total[part] += logits
        count[part] += 1
    assert total is not None
    return total / count.to(total.dtype)


def _starts(length: int, side: int) -> list[int]:
    """Return the first positions of windows, at equal distances of two thirds of a side at most."""
    gaps = -(-3 * (length - side) // (2 * side))
    return [round(i * (length - side) / gaps) for i in range(gaps + 1)] if gaps else [0]
