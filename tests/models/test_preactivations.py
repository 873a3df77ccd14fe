"""The maps before the last activation of each stage, of networks of every family, against a run by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.losses import ReviewKDLoss
from stkd_lightning.models import FeatureTap, Layers, NetworkInspector, create_model
from stkd_lightning.models.preactivation import Preactivation
from stkd_lightning.tasks.types import MixedTarget, ModelOutput
from stkd_lightning.teacher import FrozenTeacher

FAMILIES = ("resnet14", "resnet8x4", "ResNet50", "wrn_16_2", "vgg8", "ShuffleV1", "ShuffleV2", "MobileNetV2")
TARGET = MixedTarget.unmixed(torch.tensor([0, 1]))
ACTIVATED = ("resnet14", "resnet8x4", "ResNet50", "vgg8", "ShuffleV1")


def trained(name: str) -> Any:
    """Return a network whose BatchNorms have statistics and weights that differ from channel to channel."""
    torch.manual_seed(0)
    network = create_model(name, num_classes=10)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias):
                nn.init.normal_(tensor, std=0.2)
            for tensor in (module.running_var, module.weight):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return network.eval()


def basic(block: Any, x: Tensor) -> Tensor:
    shortcut = x if block.downsample is None else block.downsample(x)
    return block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x))))) + shortcut


def bottleneck(block: Any, x: Tensor) -> Tensor:
    y = F.relu(block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x))))))
    return block.bn3(block.conv3(y)) + block.shortcut(x)


def grouped(block: Any, x: Tensor) -> Tensor:
    y = F.relu(block.bn2(block.conv2(block.shuffle(F.relu(block.bn1(block.conv1(x)))))))
    return block.bn3(block.conv3(y)) + x


def split(block: Any, x: Tensor) -> Tensor:
    """The authors' order: before the shuffle, and the kept half as it is."""
    kept, y = x.chunk(2, dim=1)
    y = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(y)))))
    return torch.cat([kept, block.bn3(block.conv3(y))], dim=1)


def by_hand(name: str, network: Any, images: Tensor) -> list[Tensor]:
    if name == "vgg8":
        return vgg(network, images)
    if name == "MobileNetV2":
        return mobile(network, images)
    if name.startswith("wrn"):
        return wide(network, images)
    ends = {"resnet": basic, "ResNet": bottleneck, "ShuffleV1": grouped, "ShuffleV2": split}
    end = next(function for prefix, function in ends.items() if name.startswith(prefix))
    x, maps = F.relu(network.bn1(network.conv1(images))), []
    for path in network.feature_layers.stages:
        *blocks, last = network.get_submodule(path)
        for block in blocks:
            x = block(x)
        maps.append(end(last, x))
        x = last(x)
    return maps


def vgg(network: Any, images: Tensor) -> list[Tensor]:
    x, maps = F.max_pool2d(F.relu(network.block0(images)), 2), []
    for i in (1, 2, 3, 4):
        maps.append(network.get_submodule(f"block{i}")(x))
        x = F.max_pool2d(F.relu(maps[-1]), 2) if i < 3 else F.relu(maps[-1])
    return maps


def wide(network: Any, images: Tensor) -> list[Tensor]:
    first = network.block1(network.conv1(images))
    second = network.block2(first)
    third = network.block3(second)
    return [network.block2.layer[0].bn1(first), network.block3.layer[0].bn1(second), network.bn1(third)]


def mobile(network: Any, images: Tensor) -> list[Tensor]:
    """Its blocks end in a linear convolution, so its stages are these maps."""
    x, maps = network.conv1(images), []
    for i, block in enumerate(network.blocks):
        x = block(x)
        if i in (1, 2, 4, 6):
            maps.append(x)
    return maps


@pytest.mark.parametrize("name", FAMILIES)
def test_preactivations_are_the_maps_by_hand(name: str) -> None:
    network, images = trained(name), torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    layers = network.feature_layers
    assert len(layers.preactivations) == len(layers.stages)
    with torch.no_grad():
        features = FeatureTap(network, layers.preactivations)(images).features
        for path, expected in zip(layers.preactivations, by_hand(name, network, images), strict=True):
            assert float(expected.min()) < 0
            torch.testing.assert_close(features[path], expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ACTIVATED)
def test_stages_are_the_activated_preactivations(name: str) -> None:
    network, images = trained(name), torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    layers = network.feature_layers
    with torch.no_grad():
        features = FeatureTap(network, (*layers.preactivations, *layers.stages))(images).features
    for before, after in zip(layers.preactivations, layers.stages, strict=True):
        torch.testing.assert_close(features[before].relu(), features[after], rtol=0, atol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_frozen_teacher_shows_its_preactivations(name: str) -> None:
    """Folding of BatchNorm changes their rounding only."""
    network, images = trained(name), torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    paths = network.feature_layers.preactivations
    with torch.no_grad():
        expected = by_hand(name, network, images)
    features = FrozenTeacher(network, paths)(images).features
    for path, map_ in zip(paths, expected, strict=True):
        scale = float(map_.abs().max())
        torch.testing.assert_close(features[path], map_, rtol=0, atol=1e-5 * scale)


def test_a_compiled_teacher_shows_its_preactivations() -> None:
    network, images = trained("resnet14"), torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    paths = network.feature_layers.preactivations
    with torch.no_grad():
        expected = by_hand("resnet14", network, images)
    features = FrozenTeacher(network, paths, compile=True)(images).features
    for path, map_ in zip(paths, expected, strict=True):
        torch.testing.assert_close(features[path], map_, rtol=0, atol=1e-5 * float(map_.abs().max()))


@pytest.mark.parametrize("name", ["resnet8", "ResNet50", "ShuffleV1"])
def test_a_teachers_digest_does_not_see_the_marks(name: str) -> None:
    network = create_model(name, num_classes=10)
    digest = FrozenTeacher(network).digest
    for module in list(network.modules()):
        if isinstance(getattr(module, "preactivation", None), Preactivation):
            del module.preactivation
    assert "Preactivation" not in repr(network)
    assert FrozenTeacher(network).digest == digest


@pytest.mark.parametrize("teacher", FAMILIES)
def test_reviewkd_reads_the_teacher_before_the_activation(teacher: str) -> None:
    torch.manual_seed(0)
    student: Any = create_model("resnet8", num_classes=10)
    image, network, loss = torch.zeros(1, 3, 32, 32), trained(teacher), ReviewKDLoss()
    loss.prepare(NetworkInspector(student, image), NetworkInspector(network, image))
    own, other = student.feature_layers, network.feature_layers
    assert loss.features.student == (*own.stages, own.embedding)
    assert loss.features.teacher == (*other.preactivations[-3:], other.embedding)
    assert loss.notice == ""
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        shown = FeatureTap(network, loss.features.teacher)(images)
        maps = [*by_hand(teacher, network, images)[-3:], shown.features[other.embedding]]
        stated = ModelOutput(shown.logits, dict(zip(loss.features.teacher, maps, strict=True)))
        answer = FeatureTap(student, loss.features.student)(images)
        torch.testing.assert_close(loss(answer, shown, TARGET), loss(answer, stated, TARGET), rtol=0, atol=0)


def test_a_teacher_that_declares_none_is_named() -> None:
    class Declares(nn.Module):
        feature_layers = Layers(("trunk",), "trunk", "pool", "head")

        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
            self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 10)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.pool(self.trunk(images)).flatten(1))

    image, loss = torch.zeros(1, 3, 16, 16), ReviewKDLoss()
    loss.prepare(NetworkInspector(create_model("resnet8", num_classes=10), image), NetworkInspector(Declares(), image))
    assert loss.features.teacher == ("trunk", "pool")
    assert loss.notice.startswith("reviewkd: Declares declares no maps before the last activation of its stages")


def test_layers_of_a_part_move_with_it() -> None:
    layers = Layers(("a", "b"), "b", "pool", "fc", preactivations=("a.0",)).after("body")
    assert layers == Layers(("body.a", "body.b"), "body.b", "body.pool", "body.fc", preactivations=("body.a.0",))
