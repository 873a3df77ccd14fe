"""Small networks with a class for each pixel."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 5


class Dense(nn.Module):
    """A stem, a body with BatchNorm and Dropout, and scores, which are resized to the image.

    Args:
        width: channels of the body.
        classes: number of classes.
        stride: of the stem.
    """

    def __init__(self, width: int = 8, classes: int = CLASSES, stride: int = 2) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, stride=stride, padding=1), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.Dropout(0.2))
        self.scores = nn.Conv2d(width, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(B, K, H, W)``."""
        size = images.shape[2:]
        return F.interpolate(self.scores(self.body(self.stem(images))), size, mode="bilinear", align_corners=False)


class UNet(nn.Module):
    """Two resolutions and a connection between them around the lower one."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Conv2d(3, 4, 3, padding=1)
        self.down2 = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.scores = nn.Conv2d(8, CLASSES, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(B, K, H, W)``."""
        first = self.down1(images).relu()
        return self.scores(torch.cat([self.up(self.down2(first)), first], 1))
