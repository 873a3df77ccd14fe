"""The 22 CIFAR networks of the distillation literature, with the parameter names of its published checkpoints."""

from stkd_lightning.models.cifar.mobilenetv2 import MobileNetV2
from stkd_lightning.models.cifar.resnet import (
    resnet8,
    resnet8x4,
    resnet14,
    resnet20,
    resnet32,
    resnet32x4,
    resnet44,
    resnet56,
    resnet110,
)
from stkd_lightning.models.cifar.resnet50 import ResNet50
from stkd_lightning.models.cifar.shufflenetv1 import ShuffleV1
from stkd_lightning.models.cifar.shufflenetv2 import ShuffleV2
from stkd_lightning.models.cifar.vgg import vgg8, vgg11, vgg13, vgg16, vgg19
from stkd_lightning.models.cifar.wrn import wrn_16_1, wrn_16_2, wrn_40_1, wrn_40_2

__all__ = [
    "MobileNetV2",
    "ResNet50",
    "ShuffleV1",
    "ShuffleV2",
    "resnet8",
    "resnet8x4",
    "resnet14",
    "resnet20",
    "resnet32",
    "resnet32x4",
    "resnet44",
    "resnet56",
    "resnet110",
    "vgg8",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "wrn_16_1",
    "wrn_16_2",
    "wrn_40_1",
    "wrn_40_2",
]
