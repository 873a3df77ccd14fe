"""VGG with BatchNorm and one linear classifier: Simonyan and Zisserman 2015 (arXiv:1409.1556), for small images."""

from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.models.init import initialize
from stkd_lightning.models.layers import Layers


class VGG(nn.Module):
    """Five blocks of 3x3 convolutions: images ``(B, 3, H, W)`` to logits ``(B, num_classes)``.

    There are three poolings by 2 between the blocks, and a fourth before the last block for images of 64 pixels and
    more, so that 32 and 64 pixels both end at 4x4.

    Args:
        depths: convolutions of each block.
        num_classes: K.
    """

    feature_layers = Layers(
        ("relu1", "relu2", "relu3", "relu4"),
        "relu4",
        "avgpool",
        "classifier",
        preactivations=("block1", "block2", "block3", "block4"),
    )

    def __init__(self, depths: tuple[int, int, int, int, int], num_classes: int) -> None:
        super().__init__()
        widths = (3, 64, 128, 256, 512, 512)
        self.block0, self.block1, self.block2, self.block3, self.block4 = (
            self._block(widths[i], widths[i + 1], depth) for i, depth in enumerate(depths)
        )
        self.relu0, self.relu1, self.relu2, self.relu3, self.relu4 = (nn.ReLU() for _ in depths)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(512, num_classes)
        initialize(self)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    @staticmethod
    def _block(width_in: int, width: int, depth: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for i in range(depth):
            layers += [nn.Conv2d(width if i else width_in, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        return nn.Sequential(*layers[:-1])  # relu0 to relu4 follow; losses read features there

    def forward(self, images: Tensor) -> Tensor:
        x = F.max_pool2d(self.relu0(self.block0(images)), 2)
        x = F.max_pool2d(self.relu1(self.block1(x)), 2)
        x = F.max_pool2d(self.relu2(self.block2(x)), 2)
        x = self.relu3(self.block3(x))
        if images.shape[-1] >= 64:
            x = F.max_pool2d(x, 2)
        x = self.relu4(self.block4(x))
        return self.classifier(self.avgpool(x).flatten(1))


def vgg8(num_classes: int) -> VGG:
    return VGG((1, 1, 1, 1, 1), num_classes)


def vgg11(num_classes: int) -> VGG:
    return VGG((1, 1, 2, 2, 2), num_classes)


def vgg13(num_classes: int) -> VGG:
    return VGG((2, 2, 2, 2, 2), num_classes)


def vgg16(num_classes: int) -> VGG:
    return VGG((2, 2, 3, 3, 3), num_classes)


def vgg19(num_classes: int) -> VGG:
    return VGG((2, 2, 4, 4, 4), num_classes)
