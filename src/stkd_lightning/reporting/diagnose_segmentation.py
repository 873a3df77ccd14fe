"""Diagnostics of a segmentation student: quality of each image, category similarities, and masks to look at.

Category similarities are those of DSD (arXiv:2107.08591), of the scores at the size of the images.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stkd_lightning.reporting.diagnostics_file import Array
from stkd_lightning.reporting.segmentation_diagnostics import GALLERY, SegmentationDiagnostics
from stkd_lightning.tasks.segmentation_metrics import IGNORED, confusion_matrices, image_quality
from stkd_lightning.tasks.types import Batch

Network = Callable[[Tensor], Tensor]

SIDE = 256  # largest side of a picture, and of the scores in a category similarity, in pixels


@torch.no_grad()
def diagnose_segmentation(
    student: Network,
    teacher: Network | None,
    batches: Iterable[Batch],
    again: Callable[[list[int]], Iterable[Batch]],
    *,
    num_classes: int,
    device: torch.device,
    mean: Iterable[float],
    std: Iterable[float],
    available: int | None = None,
) -> SegmentationDiagnostics:
    """Measure a student and its teacher on images that they were not trained on; images without any class are left out.

    The memory does not depend on the number of images: images of the gallery are read a second time.

    Args:
        student: network from normalized images ``(B, 3, H, W)`` to logits ``(B, K, H, W)``, in evaluation mode.
        teacher: network of the same kind; ``None`` without a teacher.
        batches: images with their indices; the images of a batch have equal sides.
        again: from indices to batches of one image each, in this order.
        num_classes: K.
        device: device of both networks.
        mean: channel means of the normalization, to display images.
        std: channel standard deviations of the normalization.
        available: number of images in the sample; ``None``: the batches hold all of them.
    """
    networks = {"student": student} if teacher is None else {"student": student, "teacher": teacher}
    quality: dict[str, list[Tensor]] = {name: [] for name in networks}
    similarity = {name: torch.zeros(num_classes, num_classes, device=device) for name in networks}
    indices: list[int] = []
    empty = 0
    for batch in batches:
        images, labels = batch.images.to(device), batch.labels.to(device)
        counted = (labels != IGNORED).flatten(1).any(1)
        empty += int((~counted).sum())
        assert batch.indices is not None
        indices += batch.indices.to(device)[counted].tolist()
        for name, network in networks.items():
            logits = network(images).float()
            confusion = confusion_matrices(logits.argmax(1), labels, num_classes)
            quality[name].append(image_quality(confusion)[counted].cpu())
            similarity[name] += category_similarities(logits)[counted].sum(0)
    qualities = {name: torch.cat(values).numpy() for name, values in quality.items() if values}
    chosen = chosen_images(qualities.get("student", np.zeros(0)))
    pixels, masks = _gallery(networks, again([indices[i] for i in chosen]), device, mean, std)
    none = np.zeros(0, np.float32)
    return SegmentationDiagnostics(
        images=np.asarray(len(indices)),
        available=np.asarray(len(indices) if available is None else available - empty),
        student_quality=qualities.get("student", none),
        teacher_quality=qualities.get("teacher", none),
        student_similarity=_mean(similarity["student"], len(indices)),
        teacher_similarity=_mean(similarity["teacher"], len(indices)) if teacher else none,
        shown=_padded(pixels, 0).reshape(len(chosen), 3, *_square(pixels)),
        shown_sizes=np.array([image.shape[1:] for image in pixels], dtype=np.int64).reshape(-1, 2),
        shown_quality=qualities.get("student", none)[chosen],
        shown_truth=_padded(masks["truth"], IGNORED),
        student_shown=_padded(masks["student"], IGNORED),
        teacher_shown=_padded(masks["teacher"], IGNORED) if teacher else np.zeros(0, np.uint8),
    )


def category_similarities(logits: Tensor) -> Tensor:
    """Return the cosines of the probability maps of each pair of classes, ``(B, K, K)``, of logits ``(B, K, H, W)``."""
    maps = F.normalize(shrunk(logits).softmax(1).flatten(2), dim=2)
    return maps @ maps.transpose(1, 2)


def chosen_images(quality: Array) -> list[int]:
    """Return positions of images of the lowest, of medium and of the highest quality, by ascending quality.

    Args:
        quality: ``(N,)``; all images if they are few.
    """
    order = np.argsort(quality, kind="stable").tolist()
    middle = len(order) // 2
    return order if len(order) <= GALLERY else [*order[:2], *order[middle - 1 : middle + 1], *order[-2:]]


def shrunk(maps: Tensor) -> Tensor:
    """Return maps ``(B, C, H, W)`` with sides of at most 256 pixels."""
    scale = SIDE / max(maps.shape[2:])
    sides = [max(1, round(scale * side)) for side in maps.shape[2:]]
    return maps if scale >= 1 else F.interpolate(maps, sides, mode="bilinear", antialias=True)


def _gallery(
    networks: dict[str, Network],
    batches: Iterable[Batch],
    device: torch.device,
    mean: Iterable[float],
    std: Iterable[float],
) -> tuple[list[Array], dict[str, list[Array]]]:
    """Return images ``(3, h, w)`` uint8, and masks ``(h, w)`` uint8 of truth, student and teacher, in small."""
    centre, spread = (torch.tensor(list(values), device=device).view(-1, 1, 1) for values in (mean, std))
    pixels: list[Array] = []
    masks: dict[str, list[Array]] = {"truth": [], "student": [], "teacher": []}
    for batch in batches:
        images = batch.images.to(device)
        picture = (255 * shrunk(images * spread + centre).clamp(0, 1)).round().byte()
        pixels.append(picture[0].cpu().numpy())
        classes = {"truth": batch.labels, **{name: network(images).argmax(1) for name, network in networks.items()}}
        for name, mask in classes.items():
            # The nearest pixel: a mean of classes would be another class.
            small = F.interpolate(mask[None].float(), picture.shape[2:], mode="nearest-exact")
            masks[name].append(small[0, 0].byte().cpu().numpy())
    return pixels, masks


def _square(pictures: list[Array]) -> tuple[int, int]:
    side = max((max(picture.shape[-2:]) for picture in pictures), default=0)
    return side, side


def _padded(pictures: list[Array], value: int) -> Array:
    """Return pictures ``(..., h, w)`` of unequal sides as one array, padded at the bottom and on the right."""
    leading = pictures[0].shape[:-2] if pictures else ()
    padded = np.full((len(pictures), *leading, *_square(pictures)), value, np.uint8)
    for row, picture in zip(padded, pictures, strict=True):
        row[..., : picture.shape[-2], : picture.shape[-1]] = picture
    return padded


def _mean(total: Tensor, count: int) -> Array:
    return (total / max(1, count)).cpu().numpy()
