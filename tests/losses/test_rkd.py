import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stkd_lightning.losses import RKDLoss, relational
from stkd_lightning.tasks.types import MixedTarget
from tests.losses.properties import (
    Function,
    dot,
    orthogonal,
    output,
    unit,
    waves,
)

TARGET = MixedTarget.unmixed(torch.arange(4))
DISTANCE = partial(relational, distance_weight=1.0, angle_weight=0.0)
ANGLE = partial(relational, distance_weight=0.0, angle_weight=1.0)
both_parts = pytest.mark.parametrize("function", [DISTANCE, ANGLE], ids=["distance", "angle"])

point = st.tuples(st.integers(-4, 4), st.integers(-4, 4), st.integers(-4, 4))
different_points = st.lists(point, min_size=4, max_size=4, unique=True)


def rkd_by_loops(student: Tensor, teacher: Tensor, distance_weight: float = 25.0, angle_weight: float = 50.0) -> float:
    batch = range(len(student))

    def huber(difference: float) -> float:
        return difference**2 / 2 if abs(difference) < 1 else abs(difference) - 1 / 2

    def distances(samples: list[list[float]]) -> list[float]:
        every = [math.dist(samples[i], samples[j]) for i in batch for j in batch]
        mean = sum(every) / (len(samples) * (len(samples) - 1))
        return [distance / mean for distance in every]

    def cosines(samples: list[list[float]]) -> list[float]:
        def direction(i: int, j: int) -> list[float]:
            return unit([b - a for a, b in zip(samples[i], samples[j], strict=True)])

        return [dot(direction(i, j), direction(i, k)) for i in batch for j in batch for k in batch]

    own, other = student.flatten(1).tolist(), teacher.flatten(1).tolist()
    distance = [huber(a - b) for a, b in zip(distances(own), distances(other), strict=True)]
    angle = [huber(a - b) for a, b in zip(cosines(own), cosines(other), strict=True)]
    return distance_weight * sum(distance) / len(distance) + angle_weight * sum(angle) / len(angle)


@settings(max_examples=30, deadline=None)
@given(different_points, different_points)
def test_equals_the_definition_at_any_different_points(student: list[list[int]], teacher: list[list[int]]) -> None:
    own, other = torch.tensor(student, dtype=torch.float64), torch.tensor(teacher, dtype=torch.float64)
    assert float(relational(own, other)) == pytest.approx(rkd_by_loops(own, other), rel=1e-10, abs=1e-12)


def test_hand_computed_case() -> None:
    """A right triangle of sides 3, 4 and 5 beside the points 0, 1 and 3 of a line.

    Distances over their means 4 and 2: (3, 4, 5) / 4 and (1, 3, 2) / 2. Differences 1/4, -1/2, 1/4; squares halved,
    each pair twice, over 3**2: 2 (1/32 + 1/8 + 1/32) / 9 = 1/24.
    Cosines at the three corners: (0, 3/5, 4/5) and (1, -1, 1). Differences -1, 8/5, -1/5, of which the Huber loss is
    1/2, 11/10 and 1/50; each twice, over 3**3: 2 * 1.62 / 27 = 0.12.
    """
    student = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    teacher = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)
    assert float(DISTANCE(student, teacher)) == pytest.approx(1 / 24, rel=1e-12)
    assert float(ANGLE(student, teacher)) == pytest.approx(0.12, rel=1e-12)
    assert float(relational(student, teacher)) == pytest.approx(25 / 24 + 6, rel=1e-12)


def test_two_samples_have_nothing_to_compare() -> None:
    """Their distance is its own mean, and there is no angle between two."""
    assert float(relational(waves(2, 2), waves(2, 2, phase=1.0))) == pytest.approx(0, abs=1e-12)


def test_zero_where_student_is_teacher_turned_scaled_and_moved() -> None:
    teacher = waves(4, 5)
    student = 3 * teacher @ orthogonal(5) + waves(1, 5, phase=2.0)
    assert float(relational(student, teacher)) == pytest.approx(0, abs=1e-13)


@both_parts
def test_a_common_factor_changes_nothing(function: Function) -> None:
    student, teacher = waves(4, 3), waves(4, 5, phase=1.0)
    torch.testing.assert_close(function(100 * student, teacher), function(student, teacher / 100), rtol=1e-12, atol=0)


def test_equal_samples_are_a_pair_too() -> None:
    """The mean is over pairs of different samples, whatever their distance: the loss does not jump where it is 0."""
    student, teacher = waves(4, 3), waves(4, 5, phase=1.0)
    student[1] = student[0]
    beside = student.clone()
    beside[1] += 1e-9
    assert float(DISTANCE(student, teacher)) == pytest.approx(float(DISTANCE(beside, teacher)), rel=1e-6)


def test_close_samples_keep_their_distance_in_float32() -> None:
    """Samples far from the origin and near to each other, where the square of a difference by products cancels."""
    student, teacher = (100 + 0.01 * waves(6, 4)).float(), waves(6, 5, phase=1.0).float()
    expected = rkd_by_loops(student, teacher, distance_weight=1.0, angle_weight=0.0)
    assert float(DISTANCE(student, teacher)) == pytest.approx(expected, rel=1e-5)


def test_term() -> None:
    student, teacher = waves(4, 3, 1, 1), waves(4, 5, phase=1.0)
    loss = RKDLoss(distance_weight=2.0, angle_weight=3.0, student_layers="one", teacher_layers="other")
    terms = loss(output(one=student), output(other=teacher), TARGET)
    assert list(terms) == ["rkd"]
    assert float(terms["rkd"]) == pytest.approx(rkd_by_loops(student, teacher, 2.0, 3.0), rel=1e-10)
