"""Wide residual networks: Zagoruyko and Komodakis 2016 (arXiv:1605.07146), without dropout."""

from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.models.init import initialize
from stkd_lightning.models.layers import Layers


class WideBlock(nn.Module):
    """Pre-activated pair of 3x3 convolutions: ``(B, in, H, W)`` to ``(B, out, H / stride, W / stride)``."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.convShortcut = nn.Conv2d(width_in, width, 1, stride, bias=False) if width_in != width else None

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x))
        # If the shape changes, the shortcut starts at the activation, otherwise at the raw input.
        shortcut = x if self.convShortcut is None else self.convShortcut(activated)
        return self.conv2(F.relu(self.bn2(self.conv1(activated)))) + shortcut


class WideStage(nn.Module):
    """A sequence of blocks; the first block changes width and resolution."""

    def __init__(self, width_in: int, width: int, blocks: int, stride: int) -> None:
        super().__init__()
        first = WideBlock(width_in, width, stride)
        self.layer = nn.Sequential(first, *(WideBlock(width, width, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class WideResNet(nn.Module):
    """Three stages of (depth - 4) / 6 blocks: images ``(B, 3, H, W)`` to logits ``(B, num_classes)``.

    Args:
        depth: 6 n + 4.
        width: factor on the 16, 32, 64 channels of the stages.
        num_classes: K.
    """

    feature_layers = Layers(
        ("block1", "block2", "block3"),
        "relu",
        "avgpool",
        "fc",
        preactivations=("block2.layer.0.bn1", "block3.layer.0.bn1", "bn1"),
    )

    def __init__(self, depth: int, width: int, num_classes: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = WideStage(16, 16 * width, blocks, stride=1)
        self.block2 = WideStage(16 * width, 32 * width, blocks, stride=2)
        self.block3 = WideStage(32 * width, 64 * width, blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64 * width, num_classes)
        initialize(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(images))))
        return self.fc(self.avgpool(self.relu(self.bn1(x))).flatten(1))


def wrn_16_1(num_classes: int) -> WideResNet:
    return WideResNet(16, 1, num_classes)


def wrn_16_2(num_classes: int) -> WideResNet:
    return WideResNet(16, 2, num_classes)


def wrn_40_1(num_classes: int) -> WideResNet:
    return WideResNet(40, 1, num_classes)


def wrn_40_2(num_classes: int) -> WideResNet:
    return WideResNet(40, 2, num_classes)
