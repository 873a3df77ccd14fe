"""A compact segmentation network that a CPU trains: a ResNet of output stride 8 with dilation and pooled context.

Basic blocks: He et al. 2016, Sec. 4.2 (arXiv:1512.03385); dilation in place of a stride: Yu et al. 2017, Sec. 2
(arXiv:1705.09914); pooled context: Chen et al. 2017, Sec. 3.3 (arXiv:1706.05587). The widths and depths are ours.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.models.init import initialize
from stkd_lightning.models.layers import Layers
from stkd_lightning.models.weights import load_weights
from stkd_lightning.utilities import validation


class HalfSize(nn.Module):
    """2x2 average pooling: ``(B, C, H, W)`` to ``(B, C, ceil(H / 2), ceil(W / 2))``.

    It equals ``nn.AvgPool2d(2, ceil_mode=True)``, which ``torch.export`` cannot trace with variable sides.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x, x[:, :, -1:]], dim=2)  # the mean of an odd side's last row is this row
        x = (x[:, :, 0:-1:2] + x[:, :, 1::2]) / 2
        x = torch.cat([x, x[..., -1:]], dim=3)
        return (x[..., 0:-1:2] + x[..., 1::2]) / 2


class DilatedBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; stride 1 or 2.

    ``(B, in, H, W)`` to ``(B, out, ceil(H / stride), ceil(W / stride))``.
    """

    def __init__(self, width_in: int, width: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if width_in != width:
            # The pooling has the stride: strided 1x1 convolutions of few channels are unsafe on CPUs (pointwise.py).
            pool = HalfSize() if stride == 2 else nn.Identity()
            self.shortcut = nn.Sequential(pool, nn.Conv2d(width_in, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.shortcut(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class DilatedResNet(nn.Module):
    """Three stages of two blocks, pooled context and a 3x3 head: images ``(B, 3, H, W)`` to scores ``(B, K, H, W)``.

    With 11 classes and images of 240x180 pixels, width 24 has 1.8 M parameters and 2.8 GFLOP, width 8 has 0.20 M and
    0.31 GFLOP. Sides need not be multiples of 8.

    Args:
        num_classes: K.
        width: channels w of the stem, at stride 2; the stages have 2w, 4w and 8w at strides 4, 8 and 8.
        weights: checkpoint to load, in any format of ``load_weights``.
        weights_key: which weights of the checkpoint, if several fit; see ``load_weights``.

    Raises:
        InputError: a width below 1, or weights that do not fit.
    """

    feature_layers = Layers(("layer1", "layer2", "layer3"), "layer3", "head", "classifier")

    def __init__(
        self, num_classes: int, width: int = 24, weights: str | Path | None = None, weights_key: str | None = None
    ) -> None:
        super().__init__()
        w = validation.whole("width", width, minimum=1)
        self.stem = nn.Sequential(nn.Conv2d(3, w, 3, 2, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU())
        self.layer1 = nn.Sequential(DilatedBlock(w, 2 * w, stride=2), DilatedBlock(2 * w, 2 * w))
        self.layer2 = nn.Sequential(DilatedBlock(2 * w, 4 * w, stride=2), DilatedBlock(4 * w, 4 * w))
        self.layer3 = nn.Sequential(DilatedBlock(4 * w, 8 * w, dilation=2), DilatedBlock(8 * w, 8 * w, dilation=2))
        # Without BatchNorm, which in training refuses one image: it has one value for each channel.
        self.context = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8 * w, 4 * w, 1), nn.ReLU())
        self.head = nn.Sequential(
            nn.Conv2d(8 * w + 4 * w, 4 * w, 3, padding=1, bias=False), nn.BatchNorm2d(4 * w), nn.ReLU()
        )
        self.classifier = nn.Conv2d(4 * w, num_classes, 1)
        initialize(self)
        if weights is not None:
            load_weights(self, weights, weights_key)

    def forward(self, images: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.stem(images))))
        context = self.context(x).expand(-1, -1, x.shape[2], x.shape[3])
        scores = self.classifier(self.head(torch.cat([x, context], dim=1)))
        return F.interpolate(scores, size=images.shape[2:], mode="bilinear", align_corners=False)
