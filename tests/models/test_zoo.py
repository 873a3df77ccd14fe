import pytest
import torch
from torch import nn

from stkd_lightning.models import create_model, list_models
from stkd_lightning.models.cost import flops, parameters
from stkd_lightning.utilities.errors import InputError

# Parameters at 100 classes, of RepDistiller's networks.
PUBLISHED = {
    "resnet8": 83_892,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "ResNet50": 23_705_252,
    "wrn_16_2": 703_284,
    "wrn_40_1": 569_780,
    "wrn_40_2": 2_255_156,
    "vgg8": 3_965_028,
    "vgg13": 9_462_180,
    "MobileNetV2": 812_836,
    "ShuffleV1": 949_258,
    "ShuffleV2": 1_355_528,
}


def test_there_are_22() -> None:
    assert len(list_models()) == len(set(list_models())) == 22


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts(name: str) -> None:
    assert parameters(create_model(name, num_classes=100)) == PUBLISHED[name]


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize(("size", "classes"), [(32, 10), (64, 200), (8, 7)])
def test_any_size_and_class_count(name: str, size: int, classes: int) -> None:
    network = create_model(name, num_classes=classes).eval()
    with torch.no_grad():
        assert network(torch.randn(2, 3, size, size)).shape == (2, classes)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("resnet20", ["conv1.weight", "bn1.bias", "layer1.2.bn2.weight", "layer2.0.downsample.0.weight", "fc.bias"]),
        ("resnet8x4", ["layer1.0.downsample.1.running_var", "layer3.0.conv2.weight"]),
        ("ResNet50", ["layer1.0.shortcut.0.weight", "layer4.2.conv3.weight", "layer4.2.bn3.bias", "linear.weight"]),
        ("wrn_16_2", ["block1.layer.0.convShortcut.weight", "block3.layer.1.bn2.weight", "bn1.weight", "fc.weight"]),
        ("vgg13", ["block0.0.bias", "block0.3.weight", "block4.4.running_mean", "classifier.weight"]),
        ("MobileNetV2", ["conv1.0.weight", "blocks.6.0.conv.7.bias", "conv2.1.weight", "classifier.0.bias"]),
        ("ShuffleV1", ["layer1.0.conv3.weight", "layer2.7.bn3.weight", "linear.bias"]),
        ("ShuffleV2", ["layer1.0.conv5.weight", "layer2.7.bn3.weight", "conv2.weight", "linear.bias"]),
    ],
)
def test_parameters_are_named_as_in_published_checkpoints(name: str, keys: list[str]) -> None:
    assert set(keys) <= set(create_model(name, num_classes=100).state_dict())


def test_a_shortcut_is_there_only_where_the_shape_changes() -> None:
    keys = create_model("wrn_16_1", num_classes=10).state_dict()
    assert "block1.layer.0.convShortcut.weight" not in keys
    assert "block2.layer.0.convShortcut.weight" in keys


def test_flops_of_a_network_counted_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    )
    assert flops(network, 32) == 2 * (3 * 8 * 9 * 32 * 32 + 8 * 5)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(InputError, match=r"network 'resnet8x5': unknown; did you mean resnet8x4"):
        create_model("resnet8x5", num_classes=10)
