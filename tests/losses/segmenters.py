"""Small segmentation networks, which losses of dense prediction are fitted to."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.losses import Loss
from stkd_lightning.models import FeatureTap, Layers, NetworkInspector
from stkd_lightning.tasks.types import MixedTarget, ModelOutput
from tests.losses.properties import waves

CLASSES = 3


class Segmenter(nn.Module):
    """Stages of convolutions, a head, and scores resized to the image; without BatchNorm.

    Args:
        width: channels of the first stage; doubled in each.
        strides: of the stages.
        classes: number of classes.
        auxiliary: whether an auxiliary head reads the stage before the last.
    """

    def __init__(
        self, width: int, strides: tuple[int, ...] = (2, 2, 1), *, classes: int = CLASSES, auxiliary: bool = False
    ) -> None:
        super().__init__()
        widths = [3, *(width * 2**i for i in range(len(strides)))]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(widths[i], widths[i + 1], 3, stride=stride, padding=1), nn.Tanh())
            for i, stride in enumerate(strides)
        )
        self.head = nn.Conv2d(widths[-1], 2 * width, 1)
        self.classifier = nn.Conv2d(2 * width, classes, 1)
        self.aux_classifier = nn.Conv2d(widths[-2], classes, 1) if auxiliary else None
        paths = tuple(f"stages.{i}" for i in range(len(strides)))
        self.feature_layers = Layers(
            paths, paths[-1], "head", "classifier", auxiliary="aux_classifier" if auxiliary else ""
        )

    def forward(self, images: Tensor) -> Tensor:
        features = images
        for i, stage in enumerate(self.stages):
            features = stage(features)
            if self.aux_classifier is not None and i == len(self.stages) - 2:
                self.aux_classifier(features)
        scores = self.classifier(self.head(features))
        return F.interpolate(scores, images.shape[2:], mode="bilinear", align_corners=False)


def segmenters(student: Segmenter | None = None, teacher: Segmenter | None = None) -> tuple[NetworkInspector, ...]:
    """Return two networks of equal output stride and different width as a loss sees them, on images of 16x16."""
    torch.manual_seed(0)
    image = waves(1, 3, 16, 16, dtype=torch.float32)
    return NetworkInspector(student or Segmenter(2), image), NetworkInspector(teacher or Segmenter(3), image)


def dense_target(height: int = 16, width: int = 16, *, ignored: int | None = 255) -> MixedTarget:
    """Return the labels of two images, of which some pixels have no class."""
    labels = torch.arange(2 * height * width).view(2, 1, height, width) * 7 // 5 % CLASSES
    if ignored is not None:
        labels[:, :, ::3, 1::2] = ignored
    return MixedTarget(labels, torch.ones(2, 1), ignored)


def dense_outputs(loss: Loss, student: NetworkInspector, teacher: NetworkInspector) -> tuple[ModelOutput, ModelOutput]:
    """Fit a loss to two networks, and return their outputs for two images."""
    loss.prepare(student, teacher)
    images = waves(2, 3, 16, 16, dtype=torch.float32)
    with torch.no_grad():
        output = FeatureTap(teacher.network, loss.features.teacher)(images)
    return FeatureTap(student.network, loss.features.student)(images), output
