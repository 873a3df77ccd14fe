import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stkd_lightning.losses import VIDLoss, variational_information
from stkd_lightning.tasks.types import MixedTarget
from stkd_lightning.utilities.errors import InputError
from tests.losses.maps import all_learn, array, convolved, fit, pooled, prepared
from tests.losses.properties import (
    output,
    probes,
    waves,
)

TARGET = MixedTarget.unmixed(torch.tensor([0, 1]))


def information_by_loops(means: Tensor, teacher: Tensor, variances: list[float]) -> float:
    total, count = 0.0, 0
    for own, other in zip(means.flatten(2).tolist(), teacher.flatten(2).tolist(), strict=True):
        for channel, variance in enumerate(variances):
            for mean, value in zip(own[channel], other[channel], strict=True):
                total += (value - mean) ** 2 / (2 * variance) + math.log(variance) / 2
                count += 1
    return total / count


def test_a_number_is_the_variance_of_all_channels() -> None:
    means, teacher = waves(2, 3, 4, 4), waves(2, 3, 4, 4, phase=1.0)
    expected = information_by_loops(means, teacher, [0.1] * 3)
    assert float(variational_information(means, teacher, variance=0.1)) == pytest.approx(expected, rel=1e-10)


def test_hand_computed_case() -> None:
    """Squared differences 1, 0, 4, 0; the first feature has variance 1, the second e**2, whose logarithm is 2.

    (1 + 0) + (0 + 2) + (4 + 0) + (0 + 2) = 9, of 4 elements, halved.
    """
    means = torch.tensor([[0.0, 2.0], [1.0, 4.0]], dtype=torch.float64)
    teacher = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    variance = torch.tensor([1.0, math.exp(2)], dtype=torch.float64)
    assert float(variational_information(means, teacher, variance=variance)) == pytest.approx(9 / 8, rel=1e-12)


def test_gradient_of_the_variance() -> None:
    teacher, variance = waves(2, 3, 2, 2, phase=1.0), torch.tensor([0.5, 1.0, 5.0], dtype=torch.float64)
    variance.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: variational_information(waves(2, 3, 2, 2), teacher, variance=v), variance)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.01, 100))
def test_the_likeliest_variance_is_the_mean_square(variance: float) -> None:
    means, teacher = waves(2, 3, 4, 4), waves(2, 3, 4, 4, phase=1.0)
    best = (teacher - means).square().mean()
    least = variational_information(means, teacher, variance=best)
    assert float(least) == pytest.approx((1 + math.log(float(best))) / 2, rel=1e-10)
    other = variational_information(means, teacher, variance=torch.tensor(variance, dtype=torch.float64))
    assert float(other) >= float(least) - 1e-12


def test_what_is_learned_is_the_teachers_gaussian() -> None:
    """From features that say nothing: each channel's mean and variance, of which the loss is (1 + log v) / 2."""
    teacher = torch.linspace(0.5, 3.0, 8).view(8, 1, 1) * waves(4, 8, 4, 4, dtype=torch.float32) + 1
    own, other, loss = (
        output(s=torch.ones(4, 8, 4, 4)),
        output(t=teacher),
        VIDLoss(student_layers="s", teacher_layers="t"),
    )
    fit(loss, own, other)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        value = loss(own, other, TARGET)["vid"]
        value.backward()
        optimizer.step()
    variance = teacher.var(dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(loss.regressors[0].variance(), variance, rtol=1e-2, atol=0)
    torch.testing.assert_close(value, (1 + variance.log()).mean() / 2, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("variance", "tolerance"), [(5.0, 1e-6), (0.01, 1e-4), (2e-5, 1e-2), (1000.0, 1e-6)])
def test_variances_start_as_asked(variance: float, tolerance: float) -> None:
    loss = VIDLoss(variance=variance)
    prepared(loss, "resnet8", "resnet14")
    for regressor, width in zip(loss.regressors, (16, 32, 64), strict=True):
        torch.testing.assert_close(regressor.variance(), torch.full((width,), variance), rtol=tolerance, atol=0)


@pytest.mark.parametrize(
    ("student", "teacher"), [("resnet20", "ShuffleV1"), ("ShuffleV1", "resnet20"), ("resnet8", "ResNet50")]
)
def test_stages_of_any_resolution_and_number(student: str, teacher: str) -> None:
    loss = VIDLoss()
    terms = loss(*prepared(loss, student, teacher), TARGET)
    assert set(terms) == {"vid"}
    assert len(loss.regressors) == 3
    terms["vid"].backward()
    assert all_learn(loss)


def test_the_objective_by_loops() -> None:
    """Of the larger map the averages count; two 1x1 convolutions with ReLU and a third predict the teacher's means."""
    maps, other_maps = waves(2, 2, 4, 4), waves(2, 3, 2, 2, phase=1.0)
    own, other, loss = output(s=maps), output(t=other_maps), VIDLoss(student_layers="s", teacher_layers="t")
    fit(loss, own, other)
    value = loss(own, other, TARGET)["vid"]
    first, _, second, _, third = loss.regressors[0].mean.children()
    means = convolved(pooled(array(maps), 2), array(first.weight))
    means = convolved(means.clip(min=0), array(second.weight))
    means = convolved(means.clip(min=0), array(third.weight))
    expected = information_by_loops(torch.from_numpy(means), other_maps, loss.regressors[0].variance().tolist())
    assert value.item() == pytest.approx(expected, rel=1e-10)


def test_shapes_that_differ_are_refused() -> None:
    loss = VIDLoss()
    own, other = prepared(loss, "resnet8", "resnet8")
    other.features["layer1"] = other.features["layer1"][:1]
    with pytest.raises(ValueError, match=r"feature maps \(B, C, H, W\) of one batch: \(2, 16, 16, 16\), \(1, 16"):
        loss(own, other, TARGET)


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="loss.variance=0: must be above 0"):
        VIDLoss(variance=0)
    with pytest.raises(InputError, match="loss.variance=1e-06: must be above 1e-05"):
        VIDLoss(variance=1e-6)
    words = r"VIDLoss: reads feature maps \(B, C, H, W\), but 'fc' of ResNet gives \(B, 10\)"
    with pytest.raises(InputError, match=words):
        VIDLoss(student_layers="fc", teacher_layers="layer3").prepare(*probes())
    with pytest.raises(InputError, match=r"reads 2 of the student \(layer1, layer2\) and 1 of the teacher \(layer3\)"):
        VIDLoss(student_layers=["layer1", "layer2"], teacher_layers="layer3")
    for layers in (None, "s"):
        with pytest.raises(RuntimeError, match="VIDLoss is not fitted to the networks yet"):
            VIDLoss(student_layers=layers, teacher_layers=layers)(output(s=waves(2, 3)), output(s=waves(2, 3)), TARGET)
    loss = VIDLoss()
    own, _ = prepared(loss, "resnet8", "resnet8")
    with pytest.raises(ValueError, match="VIDLoss needs a teacher"):
        loss(own, None, TARGET)
