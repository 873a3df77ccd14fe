"""Diagnostics of a student: calibration, class similarities, and divergence from the teacher on virtual samples.

STKD claims that a student learns the teacher's similarities between the categories of several samples at once
(arXiv:2103.10047). The divergence between the two networks on virtual samples measures this, for each weight of the
first of two mixed samples; one part of it lies among the classes of neither sample. Of the teacher alone, the same
samples measure whether it sees in a mixture what the mixed label says.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stkd_lightning.losses.stkd import divergence_parts
from stkd_lightning.reporting.class_gallery import Pictures, class_predictions
from stkd_lightning.reporting.classified import Classified
from stkd_lightning.reporting.diagnostics import GALLERY, TEMPERATURE, WEIGHTS, Array, Diagnostics
from stkd_lightning.reporting.mixtures import teacher_on_mixtures
from stkd_lightning.tasks.calibration import confidence_sums, reliability
from stkd_lightning.tasks.types import Batch

Network = Callable[[Tensor], Tensor]

PAIRS = 512  # virtual samples
SIDE = 96  # largest side of an image in the gallery, in pixels


@torch.no_grad()
def diagnose(
    student: Network,
    teacher: Network | None,
    batches: Iterable[Batch],
    *,
    num_classes: int,
    device: torch.device,
    mean: Iterable[float],
    std: Iterable[float],
    available: int | None = None,
    pictures: Pictures | None = None,
) -> Diagnostics:
    """Measure a student and its teacher on images that they were not trained on.

    Args:
        student: network from normalized images ``(B, 3, H, W)`` to logits ``(B, K)``, in evaluation mode.
        teacher: network of the same kind; ``None`` without a teacher.
        batches: batches in an order that mixes the classes, since neighbours in a batch are mixed.
        num_classes: K.
        device: device of both networks.
        mean: channel means of the normalization, to display images.
        std: channel standard deviations of the normalization.
        available: number of images in the sample; ``None``: the batches hold all of them.
        pictures: of the images, by their indices in the batches; ``None``: wrong images are counted, but not shown.
    """
    seen: dict[str, list[Tensor]] = {"student": [], "teacher": [], "labels": [], "indices": []}
    virtual: dict[str, list[Tensor]] = defaultdict(list)
    gallery: dict[str, Tensor] = {}
    pairs = 0
    for batch in batches:
        images, targets = batch.images.to(device), batch.labels.to(device)
        seen["labels"].append(targets)
        seen["indices"].append(torch.full_like(targets, -1) if batch.indices is None else batch.indices.to(device))
        seen["student"].append(student(images).float())
        if teacher is None:
            continue
        seen["teacher"].append(teacher(images).float())
        if pairs < PAIRS and len(targets) > 1:
            first, classes = images[: PAIRS - pairs], torch.stack([targets, targets.roll(1)], 1)[: PAIRS - pairs]
            second = images.roll(1, 0)[: PAIRS - pairs]
            for name, values in _on_virtual(student, teacher, first, second, classes, num_classes).items():
                virtual[name].append(values)
            gallery = gallery or _gallery(student, teacher, first, second, classes, _ToPixels(mean, std, device))
            pairs += len(first)
    labels, student_logits, teacher_logits = (_joined(seen[name]) for name in ("labels", "student", "teacher"))
    compared = teacher_logits if len(teacher_logits) else None
    # Not joined over ranks: the first rank alone makes diagnostics.
    parts = Classified.of(_joined(seen["indices"]), labels, student_logits, compared)
    classified = Classified(*(part.cpu() for part in parts))
    empty = torch.zeros(0)
    return Diagnostics(
        images=np.asarray(len(labels)),
        available=np.asarray(len(labels) if available is None else available),
        student_calibration=_numpy(_calibration(student_logits, labels)),
        teacher_calibration=_numpy(_calibration(teacher_logits, labels) if len(teacher_logits) else empty),
        student_similarity=_numpy(similarity(student_logits, labels, num_classes)),
        teacher_similarity=_numpy(similarity(teacher_logits, labels, num_classes) if len(teacher_logits) else empty),
        weights=WEIGHTS[: len(WEIGHTS) if pairs else 0],
        divergence=_numpy(_joined(virtual["divergence"], 1)),
        incorrect=_numpy(_joined(virtual["incorrect"], 1)),
        agreement=_numpy(_mean(virtual["agreement"])),
        shown=_numpy(gallery.get("images", empty)),
        shown_labels=_numpy(gallery.get("labels", empty)),
        shown_weights=_numpy(gallery.get("weights", empty)),
        student_shown=_numpy(gallery.get("student", empty)),
        teacher_shown=_numpy(gallery.get("teacher", empty)),
        teacher_entropy=_numpy(_mean(virtual["entropy"])),
        teacher_top1=_numpy(_mean(virtual["top1"])),
        contradiction=_numpy(_mean(virtual["contradiction"])),
        **vars(class_predictions(classified, pictures)),
    )


def _joined(parts: list[Tensor], dim: int = 0) -> Tensor:
    return torch.cat(parts, dim) if parts else torch.zeros(0)


def _mean(parts: list[Tensor]) -> Tensor:
    """Return the mean over virtual samples for each weight; empty without samples."""
    values = _joined(parts, 1)
    return values.mean(1) if values.numel() else torch.zeros(0)


def _calibration(logits: Tensor, labels: Tensor) -> Tensor:
    return reliability(confidence_sums(logits, labels))


def similarity(logits: Tensor, labels: Tensor, num_classes: int, temperature: float = TEMPERATURE) -> Tensor:
    """Average the softened distributions of each class's images.

    Args:
        logits: ``(N, K)``.
        labels: ``(N,)``.
        num_classes: K.
        temperature: T > 0.

    Returns:
        ``(K, K)``, one row for each class; 0 for classes without images.
    """
    distributions = (logits / temperature).softmax(1)
    sums = distributions.new_zeros(num_classes, num_classes).index_add(0, labels, distributions)
    return sums / labels.bincount(minlength=num_classes).clamp(min=1)[:, None]


def _on_virtual(
    student: Network, teacher: Network, first: Tensor, second: Tensor, classes: Tensor, num_classes: int
) -> dict[str, Tensor]:
    """Compare both networks on pairs of images mixed with each weight; each result is ``(L, P)``.

    That of the contradiction has one weight less, and only pairs of different labels.
    """
    # Both classes count as correct also at weight 1, so the curve of the incorrect classes has no jump there.
    correct = torch.zeros(len(classes), num_classes, dtype=torch.bool, device=classes.device).scatter(1, classes, True)
    rows: dict[str, list[Tensor]] = defaultdict(list)
    for weight in WEIGHTS:
        images = float(weight) * first + (1 - float(weight)) * second
        student_logits, teacher_logits = student(images).float(), teacher(images).float()
        target, within, mass = divergence_parts(student_logits, teacher_logits, correct, temperature=TEMPERATURE)
        rows["divergence"].append(TEMPERATURE**2 * (target + mass * within))
        rows["incorrect"].append(TEMPERATURE**2 * mass * within)
        rows["agreement"].append((student_logits.argmax(1) == teacher_logits.argmax(1)).float())
        for name, values in teacher_on_mixtures(teacher_logits, classes, float(weight)).items():
            rows[name].append(values)
    return {name: torch.stack(values) for name, values in rows.items()}


class _ToPixels:
    """Conversion of normalized images ``(B, 3, H, W)`` to uint8, with sides of at most 96 pixels."""

    def __init__(self, mean: Iterable[float], std: Iterable[float], device: torch.device) -> None:
        self.mean, self.std = (torch.tensor(list(values), device=device).view(-1, 1, 1) for values in (mean, std))

    def __call__(self, images: Tensor) -> Tensor:
        images = (images * self.std + self.mean).clamp(0, 1)
        if images.shape[-1] > SIDE:
            images = F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)
        return (images * 255).round().byte()


def _gallery(
    student: Network, teacher: Network, first: Tensor, second: Tensor, classes: Tensor, to_pixels: _ToPixels
) -> dict[str, Tensor]:
    """Return some virtual samples of two different classes, and both networks' distributions for them.

    Without such a pair the result is empty.
    """
    chosen = (classes[:, 0] != classes[:, 1]).nonzero()[:GALLERY, 0]
    if not len(chosen):
        return {}
    first, second, classes = first[chosen], second[chosen], classes[chosen]
    weights = torch.linspace(0.5, 0.9, GALLERY, device=first.device)[: len(chosen)]
    weight = weights.view(-1, 1, 1, 1)
    virtual = weight * first + (1 - weight) * second
    return {
        "images": torch.stack([to_pixels(images) for images in (first, second, virtual)], 1),
        "labels": classes,
        "weights": weights,
        "student": student(virtual).float().softmax(1),
        "teacher": teacher(virtual).float().softmax(1),
    }


def _numpy(values: Tensor) -> Array:
    return values.cpu().numpy()
