"""Metrics of semantic segmentation, from one confusion matrix for each image.

Sums are whole numbers, so that they are the same in any order and over any number of ranks. Their quotients are
explicitly float32: in training of half precision those of whole numbers have half precision.
"""

import re
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric

from stkd_lightning.tasks.base import Metrics
from stkd_lightning.utilities.dtypes import at_least_float32

IGNORED = 255  # the label of pixels that have no class
UNIT = 1 << 20  # of a quality of 1 in the sums; its square times 2**23 images fits into 64 bits
HIGH_PRECISION = 0.9
CLASS_IOU = "iou/"  # start of the names of the metrics of single classes


def confusion_matrices(predicted: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Count the pixels of each image by label and prediction.

    Args:
        predicted: classes ``(B, H, W)``.
        labels: ``(B, H, W)``; pixels of label 255 are not counted.
        num_classes: K.

    Returns:
        ``(B, K, K)`` int64; rows are labels.
    """
    images, cells = len(labels), num_classes**2
    first = torch.arange(images, device=labels.device).view(-1, 1, 1) * cells
    bins = (first + labels * num_classes + predicted).masked_fill(labels == IGNORED, images * cells)
    return bins.flatten().bincount(minlength=images * cells + 1)[:-1].view(images, num_classes, num_classes)


def intersection_over_union(confusion: Tensor) -> Tensor:
    """Return the IoU of each class ``(..., K)`` of confusion matrices; NaN where a class does not occur."""
    correct = confusion.diagonal(dim1=-2, dim2=-1)
    return correct.float() / (confusion.sum(-1) + confusion.sum(-2) - correct)


def image_quality(confusion: Tensor) -> Tensor:
    """Return the mean IoU over the classes in the truth of each image ``(B,)``; 0 if all pixels are ignored.

    Args:
        confusion: ``(B, K, K)``.
    """
    present = confusion.sum(-1) > 0
    return intersection_over_union(confusion).where(present, 0).sum(-1) / present.sum(-1).clamp(min=1)


class Counts(Metric):
    """Whole numbers, added up over all batches and ranks.

    Args:
        shape: of the numbers.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, counts: Tensor) -> None:
        """Add the numbers of a batch."""
        self.counts += counts

    def compute(self) -> Tensor:
        """Return the sums."""
        return self.counts


class ImageQuality(Metric):
    """The quality of single images: the mean IoU over the classes in an image's truth, and its pixel accuracy.

    Images in which all pixels are ignored are not counted.
    """

    full_state_update = False
    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Images, images of high precision, sum of the qualities, and of their squares.
        self.add_state("sums", torch.zeros(4, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, confusion: Tensor) -> None:
        """Add images with confusion matrices ``(B, K, K)``."""
        pixels = confusion.sum(-1)
        counted = pixels.sum(-1) > 0
        quality = (image_quality(confusion) * UNIT).round().long()
        accuracy = confusion.diagonal(dim1=-2, dim2=-1).sum(-1).float() / pixels.sum(-1).clamp(min=1)
        values = torch.stack([counted, counted & (accuracy > HIGH_PRECISION), quality * counted, quality**2 * counted])
        self.sums += values.sum(1)

    def compute(self) -> dict[str, Tensor]:
        """Return ``image_quality``, ``quality_variance`` and ``high_precision``; NaN without images."""
        images, precise, total, squares = self.sums.cpu().double()
        quality = total / images / UNIT
        variance = (squares / images / UNIT**2 - quality**2).clamp(min=0)
        return {"image_quality": quality, "quality_variance": variance, "high_precision": precise / images}


class SegmentationMetrics(Metrics):
    """Figures of a student over an evaluation, and its likeness to a teacher where there is one.

    - ``miou``: mean over the classes of intersection over union, of all images together; classes that occur neither in
      the truth nor in the prediction are left out.
    - ``iou/CLASS``: that of a class.
    - ``pixel_accuracy``: share of the pixels whose class is right.
    - ``cross_entropy``: nats per pixel.
    - ``image_quality``: mean over images of the mean IoU over the classes in the image's truth; ``quality_variance``:
      its population variance; ``high_precision``: share of images whose pixel accuracy exceeds 0.9 (arXiv:2104.14696).
    - ``agreement``: share of the pixels whose class is the teacher's.
    - ``teacher_kl``: KL(teacher || student) at temperature 1, nats per pixel.
    - ``teacher_miou``: the teacher's own.

    Args:
        class_names: in the order of the labels.
    """

    def __init__(self, class_names: tuple[str, ...]) -> None:
        super().__init__()
        self.class_names = class_names
        count = len(class_names)
        self.means = nn.ModuleDict({n: MeanMetric(nan_strategy="disable") for n in ("cross_entropy", "teacher_kl")})
        self.student, self.teacher, self.agreed = Counts(count, count), Counts(count, count), Counts()
        self.quality = ImageQuality()

    def update(self, student: Tensor, labels: Tensor, teacher: Tensor | None = None) -> None:
        """Add a batch, image by image: in one piece the probabilities of large images would fill the memory.

        Args:
            student: logits ``(B, K, H, W)``.
            labels: ``(B, H, W)``.
            teacher: logits ``(B, K, H, W)``.
        """
        for i in range(len(labels)):
            image = slice(i, i + 1)
            self._add_image(student[image], labels[image], None if teacher is None else teacher[image])

    def _add_image(self, student: Tensor, labels: Tensor, teacher: Tensor | None) -> None:
        student, valid = at_least_float32(student), labels != IGNORED
        log_student, predicted = F.log_softmax(student, dim=1), student.argmax(1)
        confusion = confusion_matrices(predicted, labels, len(self.class_names))
        self.student.update(confusion.sum(0))
        self.quality.update(confusion)
        self._add("cross_entropy", F.nll_loss(log_student, labels, ignore_index=IGNORED, reduction="none"), valid)
        if teacher is not None:
            log_teacher, of_teacher = F.log_softmax(at_least_float32(teacher), dim=1), teacher.argmax(1)
            self.teacher.update(confusion_matrices(of_teacher, labels, len(self.class_names)).sum(0))
            divergence = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(1)
            self._add("teacher_kl", divergence, valid)
            self.agreed.update(((of_teacher == predicted) & valid).sum())

    def _add(self, name: str, values: Tensor, valid: Tensor) -> None:
        cast(MeanMetric, self.means[name]).update(values[valid])

    def compute(self, *, with_teacher: bool) -> dict[str, Tensor]:
        """Return the metrics by name, over all ranks."""
        confusion = self.student.compute()
        iou, pixels = intersection_over_union(confusion), confusion.sum()
        values = {
            "miou": iou.nanmean(),
            "pixel_accuracy": confusion.trace().float() / pixels,
            "cross_entropy": cast(MeanMetric, self.means["cross_entropy"]).compute(),
            **self.quality.compute(),
        }
        if with_teacher:
            of_teacher = intersection_over_union(self.teacher.compute())
            values["agreement"] = self.agreed.compute().float() / pixels
            values["teacher_kl"] = cast(MeanMetric, self.means["teacher_kl"]).compute()
            values["teacher_miou"] = of_teacher.nanmean()
        values |= {f"{CLASS_IOU}{loggable(name)}": value for name, value in zip(self.class_names, iou, strict=True)}
        return {name: value.to(confusion.device, torch.float32) for name, value in values.items()}

    def reset(self) -> None:
        """Drop all batches."""
        for metric in (*self.means.values(), self.student, self.teacher, self.agreed, self.quality):
            cast(Metric, metric).reset()


def loggable(class_name: str) -> str:
    """Return a class name in the characters that all dashboards take in the name of a metric."""
    return re.sub(r"[^\w\-. ]", "_", class_name)
