import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stkd_lightning.losses import PKTLoss, probabilistic_transfer
from stkd_lightning.tasks.types import MixedTarget
from tests.losses.properties import (
    check_finite,
    dot,
    orthogonal,
    output,
    unit,
    waves,
)

TARGET = MixedTarget.unmixed(torch.arange(4))


def pkt_by_loops(student: Tensor, teacher: Tensor) -> float:
    def probabilities(features: Tensor) -> list[list[float]]:
        samples = [unit(sample) for sample in features.flatten(1).tolist()]
        rows = [[(dot(one, other) + 1) / 2 for other in samples] for one in samples]
        return [[similarity / sum(row) for similarity in row] for row in rows]

    total = 0.0
    for q_row, p_row in zip(probabilities(student), probabilities(teacher), strict=True):
        total += sum(p * math.log(p / q) for p, q in zip(p_row, q_row, strict=True) if p > 0)
    return total / len(student) ** 2


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.float64, (2, 4, 3), elements=st.integers(0, 4).map(float)))
def test_equals_the_definition_at_zero_and_equal_samples(features: np.ndarray) -> None:
    """Also a mean of divergences, hence never below 0."""
    student, teacher = torch.from_numpy(features)
    value = float(probabilistic_transfer(student, teacher))
    assert value == pytest.approx(pkt_by_loops(student, teacher), rel=1e-10, abs=1e-14)
    assert value >= -1e-15


def authors_pkt(student: Tensor, teacher: Tensor, epsilon: float = 1e-7) -> Tensor:
    """The formula of the authors' code, with its epsilons."""

    def probabilities(features: Tensor) -> Tensor:
        directions = features / (features.square().sum(1, keepdim=True).sqrt() + epsilon)
        similarities = (directions @ directions.T + 1) / 2
        return similarities / similarities.sum(1, keepdim=True)

    q, p = probabilities(student), probabilities(teacher)
    return (p * ((p + epsilon) / (q + epsilon)).log()).mean()


@pytest.mark.parametrize("samples", [16, 64, 256])
def test_epsilons_of_the_authors_change_little(samples: int) -> None:
    student, teacher = waves(samples, 8).requires_grad_(), waves(samples, 16, phase=1.0)
    values = [function(student, teacher) for function in (probabilistic_transfer, authors_pkt)]
    torch.testing.assert_close(values[0], values[1], rtol=3e-4, atol=0)
    own, other = (torch.autograd.grad(value, student)[0] for value in values)
    assert float((own - other).norm() / other.norm()) < 3e-4


def test_hand_computed_case() -> None:
    """Teacher's cosine 0, similarities 1 and 1/2, rows (2/3, 1/3) and (1/3, 2/3). Student's cosine 1, rows (1/2, 1/2).

    A row's divergence is 2/3 log(4/3) + 1/3 log(2/3) = 5/3 log 2 - log 3; two rows over 2**2 are half of it.
    """
    student = torch.tensor([[1.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    expected = (5 / 3 * math.log(2) - math.log(3)) / 2
    assert float(probabilistic_transfer(student, teacher)) == pytest.approx(expected, rel=1e-12)


def test_opposite_samples_of_the_teacher_add_nothing() -> None:
    """Teacher's rows (1, 0) and (0, 1), student's (1/2, 1/2): log 2 for each row, over 2**2."""
    student = torch.tensor([[1.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    teacher = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    assert float(probabilistic_transfer(student, teacher)) == pytest.approx(math.log(2) / 2, rel=1e-12)


def test_zero_at_the_teacher_turned_and_each_sample_scaled() -> None:
    teacher = waves(4, 5)
    scales = torch.tensor([[0.1], [1.0], [2.0], [30.0]])
    assert float(probabilistic_transfer(scales * teacher @ orthogonal(5), teacher)) == pytest.approx(0, abs=1e-15)


def test_finite_where_a_similarity_is_zero() -> None:
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    check_finite(probabilistic_transfer, opposite, waves(3, 4, dtype=torch.float32))
    check_finite(probabilistic_transfer, opposite, opposite)


def test_finite_where_a_cosine_is_rounded_to_less_than_minus_one() -> None:
    samples = waves(64, 5, dtype=torch.float32)
    opposite = torch.cat([samples, -samples])
    check_finite(probabilistic_transfer, opposite, waves(128, 4, dtype=torch.float32))
    check_finite(probabilistic_transfer, waves(128, 4, dtype=torch.float32), opposite)


def test_term() -> None:
    student, teacher = waves(4, 3, 1, 1), waves(4, 5, phase=1.0)
    loss = PKTLoss(student_layers="one", teacher_layers="other")
    terms = loss(output(one=student), output(other=teacher), TARGET)
    assert list(terms) == ["pkt"]
    assert float(terms["pkt"]) == pytest.approx(pkt_by_loops(student, teacher), rel=1e-10)
