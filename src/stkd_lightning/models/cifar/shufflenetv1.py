"""ShuffleNet with 3 groups for small images: Zhang et al. 2018 (arXiv:1707.01083)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.models.layers import Layers
from stkd_lightning.models.preactivation import Preactivation


class ShuffleUnit(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; with stride 2 the pooled input is concatenated.

    ``(B, in, H, W)`` to ``(B, width, H, W)`` at stride 1 and to ``(B, width + in, H / 2, W / 2)`` at stride 2.
    """

    def __init__(self, width_in: int, width: int, stride: int, groups: int, first_groups: int) -> None:
        super().__init__()
        inner = width // 4
        self.stride, self.first_groups = stride, first_groups
        self.conv1 = nn.Conv2d(width_in, inner, 1, groups=first_groups, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.shuffle = nn.ChannelShuffle(first_groups)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, width, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.preactivation = Preactivation()

    def forward(self, x: Tensor) -> Tensor:
        y = self.shuffle(F.relu(self.bn1(self.conv1(x))))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        if self.stride == 2:
            return F.relu(torch.cat([y, F.avg_pool2d(x, 3, stride=2, padding=1)], dim=1))
        return F.relu(self.preactivation(y + x))


class ShuffleNet(nn.Module):
    """Three stages of shuffle units: images ``(B, 3, H, W)`` to logits ``(B, num_classes)``."""

    def __init__(self, widths: tuple[int, int, int], blocks: tuple[int, int, int], groups: int, num_classes: int):
        super().__init__()
        stages = ("layer1", "layer2", "layer3")
        ends = tuple(f"{stage}.{count - 1}.preactivation" for stage, count in zip(stages, blocks, strict=True))
        self.feature_layers = Layers(stages, "layer3", "avgpool", "linear", preactivations=ends)
        self.conv1 = nn.Conv2d(3, 24, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        # The 24 channels of the stem are too few to be grouped.
        self.layer1 = self._stage(24, widths[0], blocks[0], groups, first_groups=1)
        self.layer2 = self._stage(widths[0], widths[1], blocks[1], groups, first_groups=groups)
        self.layer3 = self._stage(widths[1], widths[2], blocks[2], groups, first_groups=groups)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(widths[2], num_classes)

    @staticmethod
    def _stage(width_in: int, width: int, blocks: int, groups: int, first_groups: int) -> nn.Sequential:
        first = ShuffleUnit(width_in, width - width_in, 2, groups, first_groups)
        return nn.Sequential(first, *(ShuffleUnit(width, width, 1, groups, groups) for _ in range(blocks - 1)))

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(self.avgpool(x).flatten(1))


def ShuffleV1(num_classes: int) -> ShuffleNet:  # the literature's spelling
    return ShuffleNet((240, 480, 960), (4, 8, 4), 3, num_classes)
