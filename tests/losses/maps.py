"""Operations on feature maps as plain loops, and losses fitted to features or to networks of the zoo."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stkd_lightning.losses import Loss
from stkd_lightning.models import FeatureTap, NetworkInspector
from stkd_lightning.tasks.types import ModelOutput
from tests.losses.properties import cells, probes, waves

Map = NDArray[np.float64]  # (B, C, H, W)


def array(tensor: Tensor) -> Map:
    return tensor.detach().double().numpy()


def pooled(maps: Map, side: int) -> Map:
    """Average over ``side`` by ``side`` fields that cover the map."""
    averages = [[cells(channel, side, side) for channel in sample] for sample in maps.tolist()]
    return np.array(averages).reshape(*maps.shape[:2], side, side)


def convolved(maps: Map, weight: Map, bias: Map | None = None) -> Map:
    """Convolve with odd kernels ``(out, in, k, k)``, zeros around the map."""
    batch, _, height, width = maps.shape
    size, around = weight.shape[2], weight.shape[2] // 2
    padded = np.pad(maps, ((0, 0), (0, 0), (around, around), (around, around)))
    result = np.zeros((batch, len(weight), height, width))
    for b in range(batch):
        for c in range(len(weight)):
            for y in range(height):
                for x in range(width):
                    products = padded[b, :, y : y + size, x : x + size] * weight[c]
                    result[b, c, y, x] = math.fsum(products.ravel()) + (0.0 if bias is None else bias[c])
    return result


def normalized(maps: Map, epsilon: float = 1e-5) -> Map:
    """BatchNorm by the statistics of the batch, as it is before it has learned anything."""
    result = np.zeros_like(maps)
    for c in range(maps.shape[1]):
        values = maps[:, c].ravel().tolist()
        mean = math.fsum(values) / len(values)
        variance = math.fsum((v - mean) ** 2 for v in values) / len(values)
        result[:, c] = (maps[:, c] - mean) / math.sqrt(variance + epsilon)
    return result


def mean_square(left: Map, right: Map) -> float:
    differences = (left - right).ravel().tolist()
    return math.fsum(d * d for d in differences) / len(differences)


class Told(NetworkInspector):
    """A network of which only features are known."""

    def __init__(self, output: ModelOutput) -> None:
        super().__init__(nn.Identity(), torch.zeros(1))
        self.output = output

    def shapes(self, paths: tuple[str, ...]) -> tuple[torch.Size, ...]:  # type: ignore[override]
        return tuple(self.output.features[path].shape for path in paths)


def fit(loss: Loss, student: ModelOutput, teacher: ModelOutput) -> None:
    """Fit a loss of named layers to features, always with the same start, in their precision."""
    torch.manual_seed(0)
    loss.prepare(Told(student), Told(teacher))
    loss.to(next(iter(student.features.values())).dtype)


def prepared(loss: Loss, student: str, teacher: str) -> tuple[ModelOutput, ModelOutput]:
    """Fit a loss to two networks and return what they say of two images."""
    torch.manual_seed(0)
    own, other = probes(student, teacher)
    loss.prepare(own, other)
    images = waves(2, 3, 16, 16, dtype=torch.float32)
    with torch.no_grad():
        output = FeatureTap(other.network.eval(), loss.features.teacher)(images)
    return FeatureTap(own.network, loss.features.student)(images), output


def all_learn(loss: Loss) -> bool:
    """Whether a gradient has reached every parameter of a loss, and there are any."""
    gradients = [p.grad for p in loss.parameters()]
    return bool(gradients) and all(g is not None and bool(g.any()) for g in gradients)


def bilinear(maps: Map, height: int, width: int, *, align_corners: bool = False) -> Map:
    """Resize by bilinear interpolation between the four nearest positions."""

    def places(length: int, size: int) -> list[tuple[int, int, float]]:
        if align_corners:
            centres = [i * (length - 1) / max(size - 1, 1) for i in range(size)]
        else:
            centres = [max((i + 0.5) * length / size - 0.5, 0) for i in range(size)]
        return [(int(c), min(int(c) + 1, length - 1), c - int(c)) for c in centres]

    result = np.zeros((*maps.shape[:2], height, width))
    for y, (top, bottom, down) in enumerate(places(maps.shape[2], height)):
        for x, (left, right, along) in enumerate(places(maps.shape[3], width)):
            above = (1 - along) * maps[:, :, top, left] + along * maps[:, :, top, right]
            below = (1 - along) * maps[:, :, bottom, left] + along * maps[:, :, bottom, right]
            result[:, :, y, x] = (1 - down) * above + down * below
    return result
