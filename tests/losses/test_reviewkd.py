import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stkd_lightning.losses import ReviewKDLoss, hierarchical_context
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities.errors import InputError
from tests.losses.maps import Map, all_learn, array, convolved, fit, mean_square, normalized, pooled, prepared
from tests.losses.properties import (
    output,
    waves,
)

TARGET = MixedTarget.unmixed(torch.tensor([0, 1]))
STAGES = ("first", "second", "third")


def context_by_loops(student: Map, teacher: Map) -> float:
    total, weight, weights = mean_square(student, teacher), 1.0, 1.0
    for side in (4, 2, 1):
        if side < student.shape[2]:
            weight /= 2
            weights += weight
            total += weight * mean_square(pooled(student, side), pooled(teacher, side))
    return total / weights


def nearest(maps: Map, side: int) -> Map:
    places = [i * maps.shape[2] // side for i in range(side)]
    return maps[:, :, places][:, :, :, places]


def review_by_loops(loss: ReviewKDLoss, student: list[Map], teacher: list[Map]) -> float:
    """Sec. 3.3, from the deepest stage on: each place is weighed against what the deeper stages hand on."""
    total, deeper = 0.0, None
    for own, other, fusion in reversed(list(zip(student, teacher, loss.fusions, strict=True))):
        fused = normalized(convolved(own, array(fusion.inside[0].weight)))
        if deeper is not None:
            deeper, layer = nearest(deeper, own.shape[2]), fusion.attention[0]
            scores = convolved(np.concatenate([fused, deeper], axis=1), array(layer.weight), array(layer.bias))
            weights = 1 / (1 + math.e**-scores)
            fused = fused * weights[:, :1] + deeper * weights[:, 1:]
        deeper = nearest(fused, other.shape[2])
        total += context_by_loops(normalized(convolved(deeper, array(fusion.outside[0].weight))), other)
    return total


def staged(*maps: Tensor) -> ModelOutput:
    return output(**dict(zip(STAGES, maps, strict=True)))


def test_hand_computed_case() -> None:
    """Differences of two 2x2 maps: (1, 0, 0, 0) and (1, 1, 1, 1).

    Squared, their mean is 5/8. Of the averages 1/4 and 1 it is 17/32, with weight 1/2; 4x4 and 2x2 are no coarser.
    """
    student = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]], [[[3.0, 3.0], [3.0, 3.0]]]], dtype=torch.float64)
    teacher = torch.tensor([0.0, 2.0], dtype=torch.float64).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    assert float(hierarchical_context(student, teacher)) == pytest.approx((5 / 8 + 17 / 64) / 1.5, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.floats(-10, 10), st.integers(1, 9))
def test_every_level_sees_the_square_of_a_constant_difference(constant: float, side: int) -> None:
    teacher = waves(2, 2, side, side)
    assert float(hierarchical_context(teacher + constant, teacher)) == pytest.approx(constant**2, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("sides", [(4, 2, 1), (8, 2, 1), (2, 2, 1), (4, 4, 2)])
def test_the_objective_by_loops(sides: tuple[int, int, int]) -> None:
    """At the student's sides 4, 2, 1, and the teacher's equal, larger and smaller."""
    student = [waves(2, 3, 4, 4), waves(2, 4, 2, 2, phase=0.5), waves(2, 4, 1, 1, phase=0.7)]
    teacher = [waves(2, 2 + i, side, side, phase=1.0 + i) for i, side in enumerate(sides)]
    own, other, loss = staged(*student), staged(*teacher), ReviewKDLoss(student_layers=STAGES, teacher_layers=STAGES)
    fit(loss, own, other)
    value = loss(own, other, TARGET)["reviewkd"]
    expected = review_by_loops(loss, [array(map_) for map_ in student], [array(map_) for map_ in teacher])
    assert value.item() == pytest.approx(expected, rel=1e-10)


def test_pooled_features_may_be_flat() -> None:
    """As they are in most networks that are not of the zoo."""
    values = []
    for shape in ((2, 4), (2, 4, 1, 1)):
        own = staged(waves(2, 3, 4, 4), waves(2, 4, 2, 2), waves(*shape))
        other = staged(waves(2, 2, 4, 4), waves(2, 3, 2, 2), waves(*shape, phase=1.0))
        loss = ReviewKDLoss(student_layers=STAGES, teacher_layers=STAGES)
        fit(loss, own, other)
        values.append(loss(own, other, TARGET)["reviewkd"])
    torch.testing.assert_close(*values)


@pytest.mark.parametrize(
    ("student", "teacher", "stages"),
    [
        ("resnet8", "resnet14", ("layer1", "layer2", "layer3", "avgpool")),
        ("ShuffleV1", "resnet20", ("layer1", "layer2", "layer3", "avgpool")),
        ("resnet20", "ShuffleV1", ("layer1", "layer2", "layer3", "avgpool")),
        ("resnet8", "ResNet50", ("layer1", "layer2", "layer3", "avgpool")),
        ("MobileNetV2", "vgg8", ("blocks.1", "blocks.2", "blocks.4", "blocks.6", "avgpool")),
    ],
)
def test_stages_of_any_resolution_and_number(student: str, teacher: str, stages: tuple[str, ...]) -> None:
    loss = ReviewKDLoss()
    terms = loss(*prepared(loss, student, teacher), TARGET)
    assert set(terms) == {"reviewkd"}
    assert loss.features.student == stages
    terms["reviewkd"].backward()
    assert all_learn(loss)


def test_deepest_stages_of_networks_of_any_depth_are_compared() -> None:
    loss = ReviewKDLoss()
    prepared(loss, "resnet8", "ResNet50")
    assert loss.features.teacher == (*(f"layer{i}.preactivation" for i in ("2.3", "3.5", "4.2")), "avgpool")


def test_the_term_grows_with_the_epochs() -> None:
    loss = ReviewKDLoss(warmup=0.5)
    own, other = prepared(loss, "resnet8", "resnet8")
    whole = loss(own, other, TARGET)["reviewkd"]
    for epoch, factor in enumerate([0.25, 0.5, 0.75, 1.0, 1.0]):
        value = loss(own, other, TARGET, StepContext(epoch, 8, 0))["reviewkd"]
        torch.testing.assert_close(value, factor * whole)


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match=r"loss.warmup=20: must be in \[0, 1\]; the nearest is 1"):
        ReviewKDLoss(warmup=20)
    with pytest.raises(RuntimeError, match="ReviewKDLoss is not fitted to the networks yet"):
        ReviewKDLoss()(staged(*[waves(2, 2)] * 3), staged(*[waves(2, 2)] * 3), TARGET)
    loss, maps = ReviewKDLoss(student_layers=STAGES, teacher_layers=STAGES), staged(*[waves(2, 2, 2, 2)] * 3)
    fit(loss, maps, maps)
    with pytest.raises(ValueError, match="ReviewKDLoss needs a teacher"):
        loss(maps, None, TARGET)
    with pytest.raises(ValueError, match=r"of one batch: \(2, 2, 2, 2\), \(1, 2, 2, 2\)"):
        loss(maps, staged(*[waves(1, 2, 2, 2)] * 3), TARGET)
