"""ShuffleNetV2 at width 1 for small images: Ma et al. 2018 (arXiv:1807.11164)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.models.layers import Layers
from stkd_lightning.models.preactivation import Preactivation


class SplitUnit(nn.Module):
    """Half of the channels pass, the other half is convolved, both are shuffled; ``(B, C, H, W)`` keeps its shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.preactivation = Preactivation()
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        kept, y = x.chunk(2, dim=1)
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(y)))))
        # The kept half is the output of an activation, which a second one does not change.
        return self.shuffle(F.relu(self.preactivation(torch.cat([kept, self.bn3(self.conv3(y))], dim=1))))


class DownUnit(nn.Module):
    """Both branches are convolved with stride 2: ``(B, in, H, W)`` to ``(B, width, H / 2, W / 2)``."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = nn.Conv2d(width_in, width_in, 3, stride=2, padding=1, groups=width_in, bias=False)
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv2 = nn.Conv2d(width_in, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(width_in, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = nn.Conv2d(half, half, 3, stride=2, padding=1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        left = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = self.bn4(self.conv4(F.relu(self.bn3(self.conv3(x)))))
        right = F.relu(self.bn5(self.conv5(right)))
        return self.shuffle(torch.cat([left, right], dim=1))


class ShuffleNet2(nn.Module):
    """Three stages and a 1x1 convolution: images ``(B, 3, H, W)`` to logits ``(B, num_classes)``."""

    def __init__(self, widths: tuple[int, int, int], blocks: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        stages = ("layer1", "layer2", "layer3")
        ends = tuple(f"{stage}.{count}.preactivation" for stage, count in zip(stages, blocks, strict=True))
        self.feature_layers = Layers(
            stages, "relu", "avgpool", "linear", after_stages=("conv2", "bn2", "relu"), preactivations=ends
        )
        self.conv1 = nn.Conv2d(3, 24, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.layer1 = self._stage(24, widths[0], blocks[0])
        self.layer2 = self._stage(widths[0], widths[1], blocks[1])
        self.layer3 = self._stage(widths[1], widths[2], blocks[2])
        self.conv2 = nn.Conv2d(widths[2], 1024, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(1024)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(1024, num_classes)

    @staticmethod
    def _stage(width_in: int, width: int, blocks: int) -> nn.Sequential:
        return nn.Sequential(DownUnit(width_in, width), *(SplitUnit(width) for _ in range(blocks)))

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.linear(self.avgpool(x).flatten(1))


def ShuffleV2(num_classes: int) -> ShuffleNet2:  # the literature's spelling
    return ShuffleNet2((116, 232, 464), (3, 7, 3), num_classes)
