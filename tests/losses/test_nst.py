import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stkd_lightning.losses import Features, NSTLoss, neuron_selectivity
from stkd_lightning.tasks.types import MixedTarget
from tests.losses.properties import (
    cells,
    check_definition,
    check_finite,
    check_gradient,
    check_half_precision,
    check_order,
    dot,
    orthogonal,
    output,
    probes,
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


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ((1, 1, 2, 2), (1, 3, 2, 2)),
        ((3, 2, 4, 4), (3, 5, 2, 2)),
        ((2, 3, 3, 2), (2, 2, 5, 6)),
        ((2, 2, 3, 5), (2, 4, 4, 3)),
    ],
)
def test_equals_the_definition(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    check_definition(neuron_selectivity, nst_by_loops, waves(*student), waves(*teacher, phase=1.0))


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


def test_zero_where_student_is_teacher_in_another_order_with_each_channel_scaled() -> None:
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


def test_the_order_of_the_batch_does_not_matter() -> None:
    check_order(neuron_selectivity, waves(5, 3, 2, 2), waves(5, 2, 2, 2, phase=1.0))


@pytest.mark.parametrize("side", [2, 3])
def test_gradient(side: int) -> None:
    """Of a student at the teacher's resolution, and of one that is pooled to it."""
    check_gradient(neuron_selectivity, waves(2, 2, side, side), waves(2, 3, 2, 2, phase=1.0))


@pytest.mark.parametrize("channel", [0.0, 1.0])
def test_finite_at_zero_and_constant_channels(channel: float) -> None:
    student, teacher = waves(2, 3, 2, 2, dtype=torch.float32), waves(2, 3, 2, 2, phase=1.0, dtype=torch.float32)
    student[0, 1], teacher[1, 2] = channel, channel
    check_finite(neuron_selectivity, student, teacher)
    check_finite(neuron_selectivity, torch.full((2, 3, 2, 2), channel), teacher)


def test_half_precision_is_raised() -> None:
    check_half_precision(neuron_selectivity, waves(4, 8, 4, 4), waves(4, 6, 2, 2, phase=1.0), relative=0.05, absolute=0)


@pytest.mark.parametrize(
    ("student", "teacher", "words"),
    [
        ((4, 3), (4, 3), r"need feature maps \(B, C, H, W\) of one batch: \(4, 3\), \(4, 3\)"),
        ((4, 3, 2, 2), (4, 3), r"need feature maps .* \(4, 3, 2, 2\), \(4, 3\)"),
        ((4, 3, 2, 2), (1, 3, 2, 2), r"of one batch: \(4, 3, 2, 2\), \(1, 3, 2, 2\)"),
    ],
)
def test_errors(student: tuple[int, ...], teacher: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        neuron_selectivity(waves(*student), waves(*teacher))


def test_reads_all_stages_by_default() -> None:
    loss = NSTLoss()
    loss.prepare(*probes())
    stages = ("layer1", "layer2", "layer3")
    assert loss.features == Features(stages, stages)


def test_the_term_is_the_sum_over_the_stages() -> None:
    first, second = waves(2, 3, 4, 4), waves(2, 4, 2, 2)
    other_first, other_second = waves(2, 5, 4, 4, phase=1.0), waves(2, 6, 2, 2, phase=1.0)
    loss = NSTLoss(student_layers=("one", "two"), teacher_layers=("a", "b"))
    terms = loss(output(one=first, two=second), output(a=other_first, b=other_second), TARGET)
    assert list(terms) == ["nst"]
    expected = nst_by_loops(first, other_first) + nst_by_loops(second, other_second)
    assert float(terms["nst"]) == pytest.approx(expected, rel=1e-10)
