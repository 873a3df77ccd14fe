import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from stkd_lightning.losses import FitNetLoss, hint
from stkd_lightning.models import NetworkInspector, create_model
from stkd_lightning.tasks.types import MixedTarget
from stkd_lightning.utilities.errors import InputError
from tests.losses.maps import Map, all_learn, array, convolved, fit, mean_square, normalized, prepared
from tests.losses.properties import (
    cells,
    output,
    probes,
    waves,
)

TARGET = MixedTarget.unmixed(torch.tensor([0, 1]))


def test_hand_computed_case() -> None:
    """Differences 1, 0, -2, 3: (1 + 0 + 4 + 9) / 4."""
    student = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    teacher = torch.tensor([[0.0, 2.0], [5.0, 1.0]], dtype=torch.float64)
    assert float(hint(student, teacher)) == 3.5


@settings(max_examples=25, deadline=None)
@given(st.floats(-100, 100), st.floats(-100, 100))
def test_it_is_quadratic_and_moves_with_the_features(scale: float, shift: float) -> None:
    student, teacher = waves(3, 4), waves(3, 4, phase=1.0)
    torch.testing.assert_close(
        hint(scale * student + shift, scale * teacher + shift), scale**2 * hint(student, teacher), rtol=1e-8, atol=1e-9
    )


def within(maps: Map, weight: Map) -> Map:
    """Convolve without zeros around the map, by kernels ``(out, in, h, w)`` of any sides."""
    (height, width), (_, _, rows, columns) = maps.shape[2:], weight.shape
    result = np.zeros((len(maps), len(weight), height - rows + 1, width - columns + 1))
    for b, c, y, x in np.ndindex(*result.shape):
        result[b, c, y, x] = math.fsum((maps[b, :, y : y + rows, x : x + columns] * weight[c]).ravel())
    return result


def spread(maps: Map, weight: Map, height: int, width: int) -> Map:
    """Convolve transposed, kernels ``(in, out, h, w)``, stride 2: an input's kernel begins a pixel before twice it."""
    result = np.zeros((len(maps), weight.shape[1], height, width))
    for b, i, y, x in np.ndindex(*maps.shape):
        for o, j, k in np.ndindex(*weight.shape[1:]):
            row, column = 2 * y + j - 1, 2 * x + k - 1
            if 0 <= row < height and 0 <= column < width:
                result[b, o, row, column] += maps[b, i, y, x] * weight[i, o, j, k]
    return result


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize(
    ("own_sides", "other_sides", "kernel"),
    [
        ((4, 4), (4, 4), (1, 1)),
        ((4, 6), (2, 3), (3, 3)),
        ((5, 3), (3, 2), (3, 3)),
        ((2, 3), (4, 6), (4, 4)),
        ((2, 3), (3, 6), (3, 4)),
        ((5, 4), (4, 2), (2, 3)),
        ((8, 8), (2, 2), (7, 7)),
        ((2, 2), (6, 6), (1, 1)),
        ((6, 2), (4, 4), (1, 1)),
    ],
)
def test_the_objective_by_loops(
    own_sides: tuple[int, int], other_sides: tuple[int, int], kernel: tuple[int, int], relu: bool
) -> None:
    """Twice as long: stride 2; half as long: transposed; longer: a kernel that fits; else the teacher's averages."""
    maps, other_maps = waves(2, 2, *own_sides), waves(2, 3, *other_sides, phase=1.0)
    loss = FitNetLoss(relu=relu, student_layers="s", teacher_layers="t")
    own, other = output(s=maps), output(t=other_maps)
    fit(loss, own, other)
    weight, given = array(loss.regressors[0][0].weight), array(other_maps)
    assert weight.shape[2:] == kernel
    if isinstance(loss.regressors[0][0], nn.ConvTranspose2d):
        regressed = spread(array(maps), weight, *other_sides)
    elif loss.regressors[0][0].stride == (2, 2):
        regressed = convolved(array(maps), weight)[:, :, ::2, ::2]
    else:
        regressed = within(array(maps), weight)
    regressed = normalized(regressed)
    if relu:
        regressed = np.maximum(regressed, 0)
    if regressed.shape != given.shape:
        height, width = (min(s, t) for s, t in zip(own_sides, other_sides, strict=True))
        regressed, given = (resized(m, height, width) for m in (regressed, given))
    assert loss(own, other, TARGET)["fitnet"].item() == pytest.approx(mean_square(regressed, given), rel=1e-10)


def resized(maps: Map, height: int, width: int) -> Map:
    averages = [[cells(channel, height, width) for channel in sample] for sample in maps.tolist()]
    return np.array(averages).reshape(*maps.shape[:2], height, width)


@pytest.mark.parametrize(
    ("student", "teacher", "kind", "kernel"),
    [
        ("ShuffleV1", "resnet32x4", nn.ConvTranspose2d, (4, 4)),
        ("ShuffleV2", "resnet32x4", nn.ConvTranspose2d, (4, 4)),
        ("ShuffleV1", "wrn_40_2", nn.ConvTranspose2d, (4, 4)),
        ("resnet8x4", "resnet32x4", nn.Conv2d, (1, 1)),
        ("MobileNetV2", "vgg13", nn.Conv2d, (1, 1)),
        ("MobileNetV2", "ResNet50", nn.ConvTranspose2d, (4, 4)),
        ("resnet20", "vgg8", nn.Conv2d, (3, 3)),
    ],
)
def test_regressors_of_cifar_networks(student: str, teacher: str, kind: type, kernel: tuple[int, int]) -> None:
    loss, image = FitNetLoss(), torch.zeros(1, 3, 32, 32)
    loss.prepare(*(NetworkInspector(create_model(name, num_classes=100), image) for name in (student, teacher)))
    convolution, *rest = loss.regressors[0].children()
    assert (type(convolution), convolution.kernel_size) == (kind, kernel)
    assert [type(module) for module in rest] == [nn.BatchNorm2d, nn.ReLU]


def test_several_layers_add_up() -> None:
    own, other = output(a=waves(2, 3, 4, 4), b=waves(2, 3, 2, 2)), output(a=waves(2, 5, 4, 4), b=waves(2, 5, 2, 2))
    values = []
    both = FitNetLoss(student_layers=["a", "b"], teacher_layers=["a", "b"])
    fit(both, own, other)
    for i, layer in enumerate("ab"):
        loss = FitNetLoss(student_layers=layer, teacher_layers=layer)
        fit(loss, own, other)
        loss.regressors[0] = both.regressors[i]
        values.append(loss(own, other, TARGET)["fitnet"])
    torch.testing.assert_close(both(own, other, TARGET)["fitnet"], sum(values))


@pytest.mark.parametrize(
    ("student", "teacher", "own", "other"),
    [
        ("resnet8", "resnet20", "layer2", "layer2"),
        ("resnet20", "ShuffleV1", "layer2", "layer2"),
        ("resnet8", "ResNet50", "layer2", "layer2"),
        ("MobileNetV2", "vgg8", "blocks.2", "relu2"),
        ("wrn_16_1", "resnet8x4", "block2", "layer2"),
    ],
)
def test_the_middle_stages_are_compared(student: str, teacher: str, own: str, other: str) -> None:
    loss = FitNetLoss()
    terms = loss(*prepared(loss, student, teacher), TARGET)
    assert (loss.features.student, loss.features.teacher) == ((own,), (other,))
    assert set(terms) == {"fitnet"}
    terms["fitnet"].backward()
    assert all_learn(loss)


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="loss.relu=2: must be true or false"):
        FitNetLoss(relu=2)
    with pytest.raises(InputError, match=r"feature of ResNet 'layer4': unknown; did you mean layer\d"):
        FitNetLoss(student_layers="layer4", teacher_layers="layer3").prepare(*probes())
    with pytest.raises(InputError, match=r"but 'fc' of ResNet gives \(B, 10\); its maps: layer1, layer2, layer3"):
        FitNetLoss(student_layers="layer3", teacher_layers="fc").prepare(*probes())
    with pytest.raises(RuntimeError, match="FitNetLoss is not fitted to the networks yet"):
        FitNetLoss()(output(s=waves(2, 3)), output(t=waves(2, 3)), TARGET)
    loss = FitNetLoss()
    own, _ = prepared(loss, "resnet8", "resnet8")
    with pytest.raises(ValueError, match="FitNetLoss needs a teacher"):
        loss(own, None, TARGET)
