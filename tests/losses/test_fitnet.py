import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stkd_lightning.losses import FitNetLoss, hint
from stkd_lightning.tasks.types import MixedTarget
from stkd_lightning.utilities.errors import InputError
from tests.losses.maps import all_learn, array, convolved, fit, mean_square, normalized, pooled, prepared
from tests.losses.properties import (
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


@pytest.mark.parametrize(("own_side", "other_side"), [(4, 4), (4, 2), (3, 5)])
def test_the_objective_by_loops(own_side: int, other_side: int) -> None:
    """Of the larger map the averages count; a 1x1 convolution and BatchNorm make the student's the teacher's width."""
    maps, other_maps = waves(2, 2, own_side, own_side), waves(2, 3, other_side, other_side, phase=1.0)
    own, other, loss = output(s=maps), output(t=other_maps), FitNetLoss(student_layers="s", teacher_layers="t")
    fit(loss, own, other)
    side = min(own_side, other_side)
    regressed = normalized(convolved(pooled(array(maps), side), array(loss.regressors[0][0].weight)))
    value = loss(own, other, TARGET)["fitnet"]
    assert value.item() == pytest.approx(mean_square(regressed, pooled(array(other_maps), side)), rel=1e-10)


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
