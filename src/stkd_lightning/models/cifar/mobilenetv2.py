"""MobileNetV2 at half width for small images: Sandler et al. 2018 (arXiv:1801.04381), expansion 6, stem of stride 2."""

from torch import Tensor, nn

from stkd_lightning.models.init import initialize
from stkd_lightning.models.layers import Layers


class InvertedResidual(nn.Module):
    """Expand, depthwise 3x3, project: ``(B, in, H, W)`` to ``(B, out, H / stride, W / stride)``."""

    def __init__(self, width_in: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = width_in * expansion
        self.residual = stride == 1 and width_in == width
        self.conv = nn.Sequential(
            nn.Conv2d(width_in, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNet(nn.Module):
    """Seven stages of inverted residuals: images ``(B, 3, H, W)`` to logits ``(B, num_classes)``."""

    STAGE_ENDS = ("blocks.1", "blocks.2", "blocks.4", "blocks.6")
    # Blocks end in a linear convolution, so the stages have no last activation.
    feature_layers = Layers(
        STAGE_ENDS, "conv2", "avgpool", "classifier.0", after_stages=("conv2",), preactivations=STAGE_ENDS
    )
    # expansion (None: that of the network), width, blocks, stride of the first block; strides are for 32 pixels
    STAGES = ((1, 16, 1, 1), (None, 24, 2, 1), (None, 32, 3, 2), (None, 64, 4, 2),
              (None, 96, 3, 1), (None, 160, 3, 2), (None, 320, 1, 1))  # fmt: skip

    def __init__(self, expansion: int, multiplier: float, num_classes: int) -> None:
        super().__init__()
        width_in = int(32 * multiplier)
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, width_in, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width_in), nn.ReLU()
        )
        self.blocks = nn.ModuleList()
        for stage_expansion, base, count, stride in self.STAGES:
            width, factor = int(base * multiplier), stage_expansion or expansion
            first = InvertedResidual(width_in, width, stride, factor)
            rest = (InvertedResidual(width, width, 1, factor) for _ in range(count - 1))
            self.blocks.append(nn.Sequential(first, *rest))
            width_in = width
        self.conv2 = nn.Sequential(nn.Conv2d(width_in, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU())
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        linear = nn.Linear(1280, num_classes)
        self.classifier = nn.Sequential(linear)
        initialize(self)
        nn.init.normal_(linear.weight, std=0.01)
        nn.init.zeros_(linear.bias)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv1(images)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.avgpool(self.conv2(x)).flatten(1))


def MobileNetV2(num_classes: int) -> MobileNet:  # the literature's spelling
    return MobileNet(6, 0.5, num_classes)
