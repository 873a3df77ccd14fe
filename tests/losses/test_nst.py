import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stkd_lightning.losses import NSTLoss, neuron_selectivity
from stkd_lightning.tasks.types import MixedTarget
from tests.losses.properties import (
    cells,
    dot,
    orthogonal,
    output,
    unit,
    waves,
)

TARGET = MixedTarget.unmixed(torch.arange(4))


def nst_by_loops(student: Tensor, teacher: Tensor) -> float:
    height, width = (min(student.shape[side], teacher.shape[side]) for side in (2, 3))

    def neurons(channels: list[list[list[float]]]) -> list[list[float]]:
        return [unit(cells(channel, height, width)) for channel in channels]

    def kernel(left: list[list[float]], right: list[list[float]]) -> float:
        return sum(dot(x, y) ** 2 for x in left for y in right) / (len(left) * len(right))

    total = 0.0
    for own, other in zip(map(neurons, student.tolist()), map(neurons, teacher.tolist()), strict=True):
        total += kernel(other, other) + kernel(own, own) - 2 * kernel(own, other)
    return total / len(student)


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.float64, (2, 2, 3, 2, 2), elements=st.integers(-4, 4).map(float)))
def test_equals_the_definition_at_zero_and_constant_maps(features: np.ndarray) -> None:
    """A squared distance of means, hence never below 0, of a kernel that is at most 1, hence never above 2."""
    student, teacher = torch.from_numpy(features)
    value = float(neuron_selectivity(student, teacher))
    assert value == pytest.approx(nst_by_loops(student, teacher), rel=1e-10, abs=1e-12)
    assert -1e-12 <= value <= 2 + 1e-12


def test_hand_computed_case() -> None:
    """Two channels of two positions: student (1, 0) and (0, 1), teacher (1, 0) and (1, 1) / sqrt 2.

    Squared inner products: within the student 1, 0, 0, 1, within the teacher 1, 1/2, 1/2, 1, across 1, 1/2, 0, 1/2.
    Means 1/2, 3/4 and 1/2: 3/4 + 1/2 - 2 * 1/2 = 1/4.
    """
    student = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64).view(1, 2, 1, 2)
    teacher = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64).view(1, 2, 1, 2)
    assert float(neuron_selectivity(student, teacher)) == pytest.approx(1 / 4, rel=1e-12)


def test_zero_at_the_teacher_reordered_and_each_channel_scaled() -> None:
    teacher = waves(2, 3, 2, 2)
    scales = torch.tensor([0.1, -2.0, 30.0]).view(1, 3, 1, 1)
    student = (scales * teacher)[:, [2, 0, 1]]
    assert float(neuron_selectivity(student, teacher)) == pytest.approx(0, abs=1e-14)


def test_positions_turned_in_both_networks_change_nothing() -> None:
    student, teacher = waves(2, 3, 2, 2), waves(2, 4, 2, 2, phase=1.0)
    turned = [(features.flatten(2) @ orthogonal(4)).view_as(features) for features in (student, teacher)]
    torch.testing.assert_close(
        neuron_selectivity(*turned), neuron_selectivity(student, teacher), rtol=1e-10, atol=1e-12
    )


def test_the_term_is_the_sum_over_the_stages() -> None:
    first, second = waves(2, 3, 4, 4), waves(2, 4, 2, 2)
    other_first, other_second = waves(2, 5, 4, 4, phase=1.0), waves(2, 6, 2, 2, phase=1.0)
    loss = NSTLoss(student_layers=("one", "two"), teacher_layers=("a", "b"))
    terms = loss(output(one=first, two=second), output(a=other_first, b=other_second), TARGET)
    assert list(terms) == ["nst"]
    expected = nst_by_loops(first, other_first) + nst_by_loops(second, other_second)
    assert float(terms["nst"]) == pytest.approx(expected, rel=1e-10)
