"""ResNet-50 with a 3x3 stem for small images: He et al. 2016, Table 1 (arXiv:1512.03385)."""

from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.models.init import initialize
from stkd_lightning.models.layers import Layers
from stkd_lightning.models.preactivation import Preactivation


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 and a shortcut: ``(B, in, H, W)`` to ``(B, 4 width, H / stride, W / stride)``."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.shortcut = nn.Sequential()
        if stride != 1 or width_in != 4 * width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(width_in, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )
        self.preactivation = Preactivation()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.preactivation(self.bn3(self.conv3(y)) + self.shortcut(x)))


class BottleneckResNet(nn.Module):
    """Four stages of bottlenecks: images ``(B, 3, H, W)`` to logits ``(B, num_classes)``."""

    def __init__(self, blocks: tuple[int, int, int, int], num_classes: int) -> None:
        super().__init__()
        stages = ("layer1", "layer2", "layer3", "layer4")
        ends = tuple(f"{stage}.{count - 1}.preactivation" for stage, count in zip(stages, blocks, strict=True))
        self.feature_layers = Layers(stages, "layer4", "avgpool", "linear", preactivations=ends)
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = self._stage(64, 64, blocks[0], stride=1)
        self.layer2 = self._stage(256, 128, blocks[1], stride=2)
        self.layer3 = self._stage(512, 256, blocks[2], stride=2)
        self.layer4 = self._stage(1024, 512, blocks[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(2048, num_classes)
        initialize(self)

    @staticmethod
    def _stage(width_in: int, width: int, blocks: int, stride: int) -> nn.Sequential:
        first = Bottleneck(width_in, width, stride)
        return nn.Sequential(first, *(Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)))

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(self.avgpool(x).flatten(1))


def ResNet50(num_classes: int) -> BottleneckResNet:  # the literature's spelling
    return BottleneckResNet((3, 4, 6, 3), num_classes)
