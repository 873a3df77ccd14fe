"""CIFAR ResNets of basic blocks: He et al. 2016, Sec. 4.2 (arXiv:1512.03385); the stages of x4 are 4 times as wide."""

from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.models.init import initialize
from stkd_lightning.models.layers import Layers
from stkd_lightning.models.preactivation import Preactivation


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: ``(B, in, H, W)`` to ``(B, out, H / stride, W / stride)``."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module | None = None
        if stride != 1 or width_in != width:
            self.downsample = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self.preactivation = Preactivation()

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.preactivation(self.bn2(self.conv2(x)) + shortcut))


class ResNet(nn.Module):
    """Three stages of (depth - 2) / 6 blocks: images ``(B, 3, H, W)`` to logits ``(B, num_classes)``.

    Args:
        depth: 6 n + 2.
        widths: channels of the stem and of the three stages.
        num_classes: K.
    """

    def __init__(self, depth: int, widths: tuple[int, int, int, int], num_classes: int) -> None:
        super().__init__()
        blocks, stages = (depth - 2) // 6, ("layer1", "layer2", "layer3")
        ends = tuple(f"{stage}.{blocks - 1}.preactivation" for stage in stages)
        self.feature_layers = Layers(stages, "layer3", "avgpool", "fc", preactivations=ends)
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = self._stage(widths[0], widths[1], blocks, stride=1)
        self.layer2 = self._stage(widths[1], widths[2], blocks, stride=2)
        self.layer3 = self._stage(widths[2], widths[3], blocks, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[3], num_classes)
        initialize(self)

    @staticmethod
    def _stage(width_in: int, width: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(width_in, width, stride)
        return nn.Sequential(first, *(BasicBlock(width, width, 1) for _ in range(blocks - 1)))

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.avgpool(x).flatten(1))


THIN = (16, 16, 32, 64)
WIDE = (32, 64, 128, 256)


def resnet8(num_classes: int) -> ResNet:
    return ResNet(8, THIN, num_classes)


def resnet14(num_classes: int) -> ResNet:
    return ResNet(14, THIN, num_classes)


def resnet20(num_classes: int) -> ResNet:
    return ResNet(20, THIN, num_classes)


def resnet32(num_classes: int) -> ResNet:
    return ResNet(32, THIN, num_classes)


def resnet44(num_classes: int) -> ResNet:
    return ResNet(44, THIN, num_classes)


def resnet56(num_classes: int) -> ResNet:
    return ResNet(56, THIN, num_classes)


def resnet110(num_classes: int) -> ResNet:
    return ResNet(110, THIN, num_classes)


def resnet8x4(num_classes: int) -> ResNet:
    return ResNet(8, WIDE, num_classes)


def resnet32x4(num_classes: int) -> ResNet:
    return ResNet(32, WIDE, num_classes)
