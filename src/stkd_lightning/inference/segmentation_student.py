"""A distilled segmentation network for inference, without a data set."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stkd_lightning.data.batches import Normalize
from stkd_lightning.data.masks import read_image
from stkd_lightning.inference.masks import predicted_masks
from stkd_lightning.inference.student import Paths, Student, listed
from stkd_lightning.utilities.errors import InputError


class SegmentationStudent(Student):
    """A frozen segmentation network in evaluation mode, with the normalization of its images, which may have any sides.

    Args:
        network: images ``(B, 3, H, W)`` normalized by ``mean`` and ``std`` to logits ``(B, K, H, W)``.
        facts: facts about the student.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(B, K, H, W)`` of normalized images ``(B, 3, H, W)``."""
        return super().forward(images)

    def preprocess(self, paths: Paths) -> Tensor:
        """Read image files of equal sides as input of the network, ``(B, 3, H, W)`` float32 on the CPU.

        Raises:
            InputError: a file that cannot be read, or images of unequal sides.
        """
        files = listed(paths)
        pixels = [torch.from_numpy(read_image(path).copy()) for path in files]
        for path, image in zip(files, pixels, strict=True):
            if image.shape != pixels[0].shape:
                sizes = " and ".join("x".join(map(str, size)) for size in (pixels[0].shape[1:], image.shape[1:]))
                raise InputError(f"images {files[0]} and {path}: have unequal sides, {sizes}; read them one by one")
        return Normalize(self.mean, self.std)(torch.stack(pixels) if pixels else torch.empty(0, 3, 1, 1))

    def predict(  # type: ignore[override]  # masks instead of classes
        self, paths: Paths, window: tuple[int, int] | None = None
    ) -> list[NDArray[np.uint8]]:
        """Return the classes of the pixels of image files, ``(h, w)`` uint8 each, in their order.

        Args:
            paths: a path or a sequence of paths.
            window: height and width of the windows in which larger images are predicted; ``None``: images as a whole.

        Returns:
            Positions in ``class_names``, at the size of each image.

        Raises:
            InputError: a file that cannot be read, or an image that is too large for the memory.
        """
        masks = []
        for mask in predicted_masks(self, listed(paths), window=window):
            if isinstance(mask, InputError):
                raise mask
            masks.append(mask.classes)
        return masks
