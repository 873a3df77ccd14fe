import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stkd_lightning.losses import ATLoss, attention_transfer
from stkd_lightning.tasks.types import MixedTarget
from tests.losses.properties import (
    cells,
    orthogonal,
    output,
    unit,
    waves,
)

TARGET = MixedTarget.unmixed(torch.arange(4))


def at_by_loops(student: Tensor, teacher: Tensor) -> float:
    height, width = (min(student.shape[side], teacher.shape[side]) for side in (2, 3))

    def attention(channels: list[list[list[float]]]) -> list[float]:
        positions = zip(*(cells(channel, height, width) for channel in channels), strict=True)
        return unit([sum(value**2 for value in position) / len(channels) for position in positions])

    total = 0.0
    for own, other in zip(student.tolist(), teacher.tolist(), strict=True):
        total += sum((a - b) ** 2 for a, b in zip(attention(own), attention(other), strict=True))
    return total / (len(student) * height * width)


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.float64, (2, 2, 3, 2, 2), elements=st.integers(-4, 4).map(float)))
def test_equals_the_definition_at_zero_and_constant_maps(features: np.ndarray) -> None:
    """No entry of unit vectors is negative, so that their squared distance is 2 at most, over H W positions."""
    student, teacher = torch.from_numpy(features)
    value = float(attention_transfer(student, teacher))
    assert value == pytest.approx(at_by_loops(student, teacher), rel=1e-10, abs=1e-14)
    assert 0 <= value <= 2 / (2 * 2) + 1e-12


def test_hand_computed_case() -> None:
    """Student attends to four positions alike, (1/2, 1/2, 1/2, 1/2); teacher to the first, (1, 0, 0, 0).

    (1/2)**2 at each of the four positions, mean 1/4.
    """
    student = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    teacher = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    teacher[0, 1, 0, 0] = -3.0
    assert float(attention_transfer(student, teacher)) == pytest.approx(1 / 4, rel=1e-12)


def test_zero_at_the_teacher_turned_and_each_sample_scaled() -> None:
    teacher = waves(3, 4, 2, 3)
    scales = torch.tensor([0.1, -2.0, 30.0]).view(3, 1, 1, 1)
    student = scales * torch.einsum("dc,bchw->bdhw", orthogonal(4), teacher)
    assert float(attention_transfer(student, teacher)) == pytest.approx(0, abs=1e-15)


def test_the_number_of_channels_does_not_matter() -> None:
    student, teacher = waves(2, 3, 2, 2), waves(2, 4, 2, 2, phase=1.0)
    torch.testing.assert_close(
        attention_transfer(student.repeat(1, 5, 1, 1), teacher),
        attention_transfer(student, teacher),
        rtol=1e-12,
        atol=0,
    )


def test_the_term_is_the_sum_over_the_stages() -> None:
    first, second = waves(2, 3, 4, 4), waves(2, 4, 2, 2)
    other_first, other_second = waves(2, 5, 4, 4, phase=1.0), waves(2, 6, 2, 2, phase=1.0)
    loss = ATLoss(student_layers=("one", "two"), teacher_layers=("a", "b"))
    terms = loss(output(one=first, two=second), output(a=other_first, b=other_second), TARGET)
    assert list(terms) == ["at"]
    expected = at_by_loops(first, other_first) + at_by_loops(second, other_second)
    assert float(terms["at"]) == pytest.approx(expected, rel=1e-10)
