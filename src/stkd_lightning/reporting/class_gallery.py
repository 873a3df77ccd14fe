"""Turn classified images into arrays, and read the few that are shown a second time."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stkd_lightning.reporting.class_predictions import GALLERY, ClassPredictions
from stkd_lightning.reporting.classified import Classified
from stkd_lightning.reporting.diagnostics_file import Array

LARGEST_SIDE = 160  # of a picture, in pixels

Fetch = Callable[[int], Tensor]  # from a position in the split to a normalized image (1, C, H, W)
Name = Callable[[int], str]  # from a position in the split to the name of a file, or ""


class Pictures:
    """Pictures of images of a split, with the names of their files.

    Args:
        fetch: reads an image.
        name: of its file.
        mean: channel means of the normalization.
        std: channel standard deviations of the normalization.
    """

    def __init__(self, fetch: Fetch, name: Name, mean: Iterable[float], std: Iterable[float]) -> None:
        self.fetch, self.name = fetch, name
        self.mean, self.std = (torch.tensor(list(values)).view(-1, 1, 1) for values in (mean, std))

    def picture(self, index: int) -> Array:
        """Return an image ``(3, h, w)`` uint8 with sides of at most 160 pixels; others than colours become gray."""
        image = (self.fetch(index).cpu() * self.std + self.mean).clamp(0, 1)
        scale = LARGEST_SIDE / max(image.shape[2:])
        if scale < 1:
            sides = [max(1, round(scale * side)) for side in image.shape[2:]]
            image = F.interpolate(image, sides, mode="bilinear", antialias=True)
        image = image if image.shape[1] == 3 else image.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        return (255 * image[0]).round().byte().numpy()


def class_predictions(images: Classified, pictures: Pictures | None) -> ClassPredictions:
    """Return classified images as arrays.

    Args:
        images: of an evaluation, on the CPU.
        pictures: of the split; ``None`` leaves the galleries empty.
    """
    return ClassPredictions(
        labels=_small(images.labels),
        student_first=_small(images.student),
        teacher_first=_small(images.teacher),
        **_gallery("wrong", images, images.most_wrong(), pictures),
        **_gallery("lost", images, images.most_disagreeing(), pictures),
    )


def _gallery(name: str, images: Classified, places: Tensor, pictures: Pictures | None) -> dict[str, Array]:
    """Return the arrays of a gallery of the first places, none without images."""
    if pictures is None or not len(places):
        return {}
    places = places[:GALLERY]
    indices, with_teacher = images.indices[places].tolist(), len(images.teacher) > 0
    teacher = images.teacher[places] if with_teacher else torch.full_like(places, -1)
    share = images.teacher_share[places] if with_teacher else torch.zeros(len(places))
    return {
        f"{name}_pictures": np.stack([pictures.picture(index) for index in indices]),
        f"{name}_classes": torch.stack([images.labels[places], images.student[places], teacher], 1).numpy(),
        f"{name}_shares": torch.stack([images.student_share[places], share], 1).numpy(),
        f"{name}_files": np.array([pictures.name(index) for index in indices], dtype=str),
    }


def _small(classes: Tensor) -> Array:
    return classes.to(torch.int32).numpy()
