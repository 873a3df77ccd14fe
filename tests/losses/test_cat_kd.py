import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stkd_lightning import DistillationModule
from stkd_lightning.losses import CATKDLoss, class_activation, class_attention_transfer
from stkd_lightning.models import DilatedResNet, FeatureTap, NetworkInspector, create_model, reuse_classifier
from stkd_lightning.tasks.types import MixedTarget
from stkd_lightning.teacher import FrozenTeacher
from stkd_lightning.utilities.errors import InputError
from tests.losses.maps import prepared
from tests.losses.properties import cells, output, waves

TARGET = MixedTarget.unmixed(torch.tensor([0, 1]))
IMAGE = torch.zeros(1, 3, 32, 32)
FAMILIES = ("resnet8", "ResNet50", "wrn_16_2", "vgg8", "ShuffleV1", "ShuffleV2", "MobileNetV2")


def transfer_by_loops(student: Tensor, teacher: Tensor, *, normalize: bool = False) -> float:
    squares = []
    for own, other in zip(student.flatten(0, 1).tolist(), teacher.flatten(0, 1).tolist(), strict=True):
        maps = [[value for row in map_ for value in row] for map_ in (own, other)]
        norms = [math.sqrt(math.fsum(v * v for v in map_)) or 1.0 for map_ in maps] if normalize else [1.0, 1.0]
        squares += [(a / norms[0] - b / norms[1]) ** 2 for a, b in zip(*maps, strict=True)]
    return math.fsum(squares) / len(squares)


def activation_by_loops(features: Tensor, weight: Tensor, side: int) -> list[list[list[float]]]:
    """The classes' maps at full size, averaged over fields afterwards."""
    samples = []
    for maps in features.tolist():
        height, width = len(maps[0]), len(maps[0][0])
        classes = []
        for row in weight.tolist():
            scores = [
                [math.fsum(w * m[y][x] for w, m in zip(row, maps, strict=True)) for x in range(width)]
                for y in range(height)
            ]
            classes.append(cells(scores, side, side))
        samples.append(classes)
    return samples


@pytest.mark.parametrize(
    ("size", "side"), [((4, 4), 2), ((4, 6), 2), ((5, 3), 2), ((2, 2), 2), ((2, 2), 4), ((3, 3), 1)]
)
def test_activations_by_loops(size: tuple[int, int], side: int) -> None:
    features, weight = waves(2, 3, *size), waves(5, 3, phase=0.4)
    value = class_activation(features, weight, side=side)
    assert value.shape == (2, 5, side, side)
    assert value.flatten(2).tolist() == [
        [pytest.approx(row, rel=1e-10, abs=1e-12) for row in classes]
        for classes in activation_by_loops(features, weight, side)
    ]


def test_hand_computed_case() -> None:
    """One class, maps (3, 4) and (4, 3): 1 unnormalized; normalized, differences of 1/5."""
    student, teacher = (torch.tensor(v, dtype=torch.float64).view(1, 1, 1, 2) for v in ([3.0, 4.0], [4.0, 3.0]))
    assert float(class_attention_transfer(student, teacher)) == pytest.approx(1, rel=1e-12)
    assert float(class_attention_transfer(student, teacher, normalize=True)) == pytest.approx(1 / 25, rel=1e-12)


def test_gradients_reach_features_and_weights_of_the_student() -> None:
    features, weight = waves(2, 3, 4, 4).requires_grad_(), waves(5, 3, phase=0.4).requires_grad_()
    teacher = class_activation(waves(2, 3, 4, 4, phase=1.0), waves(5, 3, phase=2.0), side=2)
    for normalize in (False, True):
        assert torch.autograd.gradcheck(
            lambda f, w, n=normalize: class_attention_transfer(class_activation(f, w, side=2), teacher, normalize=n),
            (features, weight),
        )


@pytest.mark.parametrize("name", FAMILIES)
def test_average_of_activations_is_the_logit_without_bias(name: str) -> None:
    """So the map and the weight are those of the classifier."""
    network: Any = create_model(name, num_classes=10).eval()
    loss, images = CATKDLoss(side=2), torch.randn(2, 3, 32, 32)
    loss.prepare(NetworkInspector(network, IMAGE), NetworkInspector(network, IMAGE))
    with torch.no_grad():
        shown = FeatureTap(network, loss.features.student)(images)
        maps, weight = shown.features.values()
        means = class_activation(maps, weight, side=1).flatten(1)
    bias = network.get_submodule(network.feature_layers.head).bias
    torch.testing.assert_close(means + bias, shown.logits, rtol=1e-4, atol=1e-5)


def test_only_the_student_learns_and_the_loss_keeps_nothing() -> None:
    loss = CATKDLoss()
    prepared(loss, "resnet8", "resnet14")
    student: Any = create_model("resnet8", num_classes=10)
    teacher: Any = create_model("resnet14", num_classes=10)
    own, other = (
        FeatureTap(network, paths)(torch.randn(2, 3, 32, 32))
        for network, paths in ((student, loss.features.student), (teacher, loss.features.teacher))
    )
    loss(own, other, TARGET)["cat_kd"].backward()
    assert float(student.fc.weight.grad.abs().max()) > 0
    assert student.fc.bias.grad is None
    assert float(student.conv1.weight.grad.abs().max()) > 0
    assert all(p.grad is None for p in teacher.parameters())
    assert not loss.state_dict()
    assert not list(loss.parameters())


@pytest.mark.parametrize("compile", [False, True])
def test_a_frozen_teacher_shows_its_classifier(compile: bool) -> None:
    network: Any = create_model("resnet8", num_classes=10).eval()
    paths, images = ("layer3", "fc:weight"), torch.randn(2, 3, 16, 16)
    shown = FrozenTeacher(network, paths, compile=compile)(images)
    torch.testing.assert_close(shown.features["fc:weight"], network.fc.weight.detach(), rtol=0, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = FrozenTeacher(network, paths)(images).features["fc:weight"]
    torch.testing.assert_close(rounded.float(), network.fc.weight.detach(), rtol=2**-8, atol=0)


def test_a_checkpoint_holds_the_student_only() -> None:
    student, teacher = (create_model(name, num_classes=10) for name in ("resnet8", "resnet14"))
    module = DistillationModule(student, CATKDLoss(), FrozenTeacher(teacher), example=IMAGE)
    assert {name.partition(".")[0] for name in module.state_dict()} == {"student"}


def test_half_precision() -> None:
    values = []
    for dtype in (torch.float32, torch.bfloat16):
        maps, weight = waves(4, 8, 4, 4).to(dtype), waves(5, 8, phase=0.4).to(dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            values.append(class_activation(maps, weight, side=2))
    assert values[1].dtype == torch.float32
    torch.testing.assert_close(values[1], values[0], rtol=0.02, atol=0.02)


def test_a_student_with_a_reused_classifier() -> None:
    teacher = create_model("resnet14", num_classes=10)
    student, loss = reuse_classifier(create_model("resnet8", num_classes=10), teacher), CATKDLoss()
    loss.prepare(NetworkInspector(student, IMAGE), NetworkInspector(teacher, IMAGE))
    assert loss.features.student == ("avgpool.0", "fc:weight")


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="loss.side=0: must be a whole number of at least 1"):
        CATKDLoss(side=0)
    with pytest.raises(InputError, match="loss.normalize=2: must be true or false"):
        CATKDLoss(normalize=2)
    own = NetworkInspector(create_model("resnet8", num_classes=10), IMAGE)
    dense = NetworkInspector(DilatedResNet(10, width=2), torch.zeros(1, 3, 64, 64))
    hidden = NetworkInspector(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), IMAGE)
    for other in (dense, hidden):
        words = f"{other.name}: its linear classifier does not read the mean of a feature map, as CAT-KD needs it"
        with pytest.raises(InputError, match=words):
            CATKDLoss().prepare(own, other)
    with pytest.raises(InputError, match="CATKDLoss: the student has 10 classes, the teacher 7"):
        CATKDLoss().prepare(own, NetworkInspector(create_model("resnet8", num_classes=7), IMAGE))
    with pytest.raises(RuntimeError, match="CATKDLoss is not fitted to the networks yet"):
        CATKDLoss()(output(s=waves(2, 3)), output(t=waves(2, 3)), TARGET)
