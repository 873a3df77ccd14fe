"""What one looks at to believe a student: calibration, class similarities, and the teacher on virtual samples.

The claim of STKD is that a student learns the teacher's similarities between the categories of several samples at once
(arXiv:2103.10047). It shows in how far the two networks' distributions are apart on virtual samples, for each weight of
the first of two mixed samples, and how much of that lies among the classes that neither of them has.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stkd_lightning.losses.stkd import divergence_parts
from stkd_lightning.reporting.diagnostics import TEMPERATURE, Array, Diagnostics
from stkd_lightning.tasks.types import Batch

Network = Callable[[Tensor], Tensor]

WEIGHTS = np.linspace(0.5, 1.0, 6)  # of the first of two samples; of the second they are the same, exchanged
BINS = 15  # of confidence
PAIRS = 512  # virtual samples
GALLERY = 8  # of them that are shown
SIDE = 96  # pixels of a shown image, at most


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
) -> Diagnostics:
    """Look at a student and its teacher on images that they were not trained on.

    Args:
        student: normalized images ``(B, 3, H, W)`` to logits ``(B, K)``, in evaluation mode.
        teacher: likewise; ``None`` where there is none.
        batches: in an order that mixes the classes, since the neighbours of a batch make the virtual samples.
        num_classes: K.
        device: of both networks.
        mean: of the normalization, for showing images.
        std: likewise.
    """
    seen: dict[str, list[Tensor]] = {"student": [], "teacher": [], "labels": []}
    virtual: dict[str, list[Tensor]] = {"divergence": [], "incorrect": [], "agreement": []}
    shown: dict[str, Tensor] = {}
    pairs = 0
    for batch in batches:
        images, labels = batch.images.to(device), batch.labels.to(device)
        seen["labels"].append(labels)
        seen["student"].append(student(images).float())
        if teacher is None:
            continue
        seen["teacher"].append(teacher(images).float())
        if pairs < PAIRS and len(labels) > 1:
            first, classes = images[: PAIRS - pairs], torch.stack([labels, labels.roll(1)], 1)[: PAIRS - pairs]
            second = images.roll(1, 0)[: PAIRS - pairs]
            for name, found in _on_virtual(student, teacher, first, second, classes, num_classes).items():
                virtual[name].append(found)
            shown = shown or _shown(student, teacher, first, second, classes, Colours(mean, std, device))
            pairs += len(first)
    every, ours, theirs = (_joined(seen[name]) for name in ("labels", "student", "teacher"))
    nothing = torch.zeros(0)
    return Diagnostics(
        images=np.asarray(len(every)),
        student_calibration=_numpy(reliability(ours, every)),
        teacher_calibration=_numpy(reliability(theirs, every) if len(theirs) else nothing),
        student_similarity=_numpy(similarity(ours, every, num_classes)),
        teacher_similarity=_numpy(similarity(theirs, every, num_classes) if len(theirs) else nothing),
        weights=WEIGHTS[: len(WEIGHTS) if pairs else 0],
        divergence=_numpy(_joined(virtual["divergence"], 1)),
        incorrect=_numpy(_joined(virtual["incorrect"], 1)),
        agreement=_numpy(_joined(virtual["agreement"], 1).mean(1) if pairs else nothing),
        shown=_numpy(shown.get("images", nothing)),
        shown_labels=_numpy(shown.get("labels", nothing)),
        shown_weights=_numpy(shown.get("weights", nothing)),
        student_shown=_numpy(shown.get("student", nothing)),
        teacher_shown=_numpy(shown.get("teacher", nothing)),
    )


def _joined(parts: list[Tensor], dim: int = 0) -> Tensor:
    return torch.cat(parts, dim) if parts else torch.zeros(0)


def reliability(logits: Tensor, labels: Tensor, bins: int = BINS) -> Tensor:
    """Count images by confidence: Guo et al. 2017, Sec. 2 (arXiv:1706.04599).

    Args:
        logits: ``(N, K)``.
        labels: ``(N,)``.
        bins: of equal width over [0, 1].

    Returns:
        ``(3, bins)``: images, mean confidence, accuracy; the latter two 0 where there are no images.
    """
    confidence, predicted = logits.softmax(1).max(1)
    place = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    values = torch.stack([torch.ones_like(confidence), confidence, (predicted == labels).to(confidence.dtype)])
    sums = values.new_zeros(3, bins).index_add(1, place, values)
    return torch.cat([sums[:1], sums[1:] / sums[:1].clamp(min=1)])


def similarity(logits: Tensor, labels: Tensor, num_classes: int, temperature: float = TEMPERATURE) -> Tensor:
    """Average the softened distributions of each class's images.

    Args:
        logits: ``(N, K)``.
        labels: ``(N,)``.
        num_classes: K.
        temperature: T > 0.

    Returns:
        ``(K, K)``, a row for each class; of a class without images all 0.
    """
    distributions = (logits / temperature).softmax(1)
    sums = distributions.new_zeros(num_classes, num_classes).index_add(0, labels, distributions)
    return sums / labels.bincount(minlength=num_classes).clamp(min=1)[:, None]


def _on_virtual(
    student: Network, teacher: Network, first: Tensor, second: Tensor, classes: Tensor, num_classes: int
) -> dict[str, Tensor]:
    """Compare both networks on pairs of images mixed with each weight; each result is ``(L, P)``."""
    # Both classes stay correct ones at weight 1, too, so that the curve of the others has no jump there.
    correct = torch.zeros(len(classes), num_classes, dtype=torch.bool, device=classes.device).scatter(1, classes, True)
    rows: dict[str, list[Tensor]] = {"divergence": [], "incorrect": [], "agreement": []}
    for weight in WEIGHTS:
        images = float(weight) * first + (1 - float(weight)) * second
        ours, theirs = student(images).float(), teacher(images).float()
        target, within, mass = divergence_parts(ours, theirs, correct, temperature=TEMPERATURE)
        rows["divergence"].append(TEMPERATURE**2 * (target + mass * within))
        rows["incorrect"].append(TEMPERATURE**2 * mass * within)
        rows["agreement"].append((ours.argmax(1) == theirs.argmax(1)).float())
    return {name: torch.stack(values) for name, values in rows.items()}


class Colours:
    """Normalized images ``(B, 3, H, W)`` back to uint8, no larger than 96 pixels."""

    def __init__(self, mean: Iterable[float], std: Iterable[float], device: torch.device) -> None:
        self.mean, self.std = (torch.tensor(list(values), device=device).view(-1, 1, 1) for values in (mean, std))

    def __call__(self, images: Tensor) -> Tensor:
        images = (images * self.std + self.mean).clamp(0, 1)
        if images.shape[-1] > SIDE:
            images = F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)
        return (images * 255).round().byte()


def _shown(
    student: Network, teacher: Network, first: Tensor, second: Tensor, classes: Tensor, colours: Colours
) -> dict[str, Tensor]:
    """Take some virtual samples of two classes, and what both networks say of them."""
    chosen = (classes[:, 0] != classes[:, 1]).nonzero()[:GALLERY, 0]
    first, second, classes = first[chosen], second[chosen], classes[chosen]
    weights = torch.linspace(0.5, 0.9, GALLERY, device=first.device)[: len(chosen)]
    shaped = weights.view(-1, 1, 1, 1)
    virtual = shaped * first + (1 - shaped) * second
    return {
        "images": torch.stack([colours(images) for images in (first, second, virtual)], 1),
        "labels": classes,
        "weights": weights,
        "student": student(virtual).float().softmax(1),
        "teacher": teacher(virtual).float().softmax(1),
    }


def _numpy(values: Tensor) -> Array:
    return values.cpu().numpy()
