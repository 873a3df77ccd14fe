"""Distorted test images, on which robustness is measured: noise, blur and JPEG, each at five strengths."""

import io
import math
import zlib
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from stkd_lightning.data.batches import Normalize

# Of CIFAR-10-C and CIFAR-100-C (Hendrycks and Dietterich 2019, arXiv:1903.12261), weakest first.
DEVIATIONS = (0.04, 0.06, 0.08, 0.09, 0.10)  # of Gaussian noise, in units of the largest value
SIGMAS = (0.4, 0.6, 0.7, 0.8, 1.0)  # of a Gaussian blur, in pixels; of images larger than SIDE in proportion
QUALITIES = (80, 65, 58, 50, 40)  # of JPEG
SIDE = 32
STRENGTHS = range(1, 6)
Name = Literal["noise", "blur", "jpeg"]


@dataclass(frozen=True)
class Corruption:
    """A distortion of an image, which is a function of the image's values.

    Attributes:
        name: of the distortion.
        strength: from 1, the weakest, to 5.
    """

    name: Name
    strength: int

    def __call__(self, images: Tensor) -> Tensor:
        """Distort images.

        Args:
            images: ``(B, C, H, W)`` uint8.

        Returns:
            Likewise.
        """
        if self.name == "noise":
            return _noisy(images, 255 * DEVIATIONS[self.strength - 1])
        if self.name == "blur":
            return _blurred(images, SIGMAS[self.strength - 1] * max(1, min(images.shape[-2:]) / SIDE))
        return _compressed(images, QUALITIES[self.strength - 1])


def names() -> tuple[Name, ...]:
    """Return the names of the distortions."""
    return get_args(Name)


def _noisy(images: Tensor, deviation: float) -> Tensor:
    """Add Gaussian noise, which the values of an image seed, so that batches and ranks do not change it."""
    distorted = np.empty(images.shape, dtype=np.uint8)
    for image, result in zip(images.cpu().numpy(), distorted, strict=True):
        noise = np.random.default_rng(zlib.crc32(image.tobytes())).standard_normal(image.shape, dtype=np.float32)
        result[:] = np.clip(np.rint(image + deviation * noise), 0, 255)
    return torch.from_numpy(distorted).to(images.device)


def _blurred(images: Tensor, sigma: float) -> Tensor:
    """Blur along the rows, then along the columns, which takes less time than both at once."""
    width = 2 * math.ceil(3 * sigma) + 1
    along_rows = functional.gaussian_blur(images.float(), [width, 1], [sigma, sigma])
    return functional.gaussian_blur(along_rows, [1, width], [sigma, sigma]).round().clamp(0, 255).byte()


def _compressed(images: Tensor, quality: int) -> Tensor:
    """Encode images as JPEG, and decode them."""
    decoded = []
    for image in images.permute(0, 2, 3, 1).cpu().numpy():
        file = io.BytesIO()
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(file, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(file)).reshape(image.shape))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous().to(images.device)


class DistortedNormalize(Normalize):
    """Distort images ``(B, C, H, W)`` uint8, then normalize them."""

    def __init__(self, normalize: Normalize, corruption: Corruption) -> None:
        self.scale, self.shift, self.corruption = normalize.scale, normalize.shift, corruption

    def __call__(self, images: Tensor) -> Tensor:
        return super().__call__(self.corruption(images))
