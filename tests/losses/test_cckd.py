import math
from functools import partial
from itertools import pairwise

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stkd_lightning.losses import CCKDLoss, correlation_congruence
from stkd_lightning.tasks.types import MixedTarget
from tests.losses.properties import (
    Function,
    check_order,
    dot,
    orthogonal,
    output,
    probes,
    unit,
    waves,
)

TARGET = MixedTarget.unmixed(torch.arange(4))
BILINEAR = partial(correlation_congruence, kernel="bilinear")
both_kernels = pytest.mark.parametrize("function", [correlation_congruence, BILINEAR], ids=["gaussian", "bilinear"])


def cckd_by_loops(
    student: Tensor, teacher: Tensor, kernel: str = "gaussian", gamma: float = 0.4, order: int = 2
) -> float:
    def correlation(one: list[float], other: list[float]) -> float:
        cosine = dot(unit(one), unit(other))
        if kernel == "bilinear":
            return cosine
        series = sum((2 * gamma) ** p / math.factorial(p) * cosine**p for p in range(order + 1))
        return math.exp(-2 * gamma) * series

    own, other = student.flatten(1).tolist(), teacher.flatten(1).tolist()
    total = 0.0
    for i in range(len(own)):
        for j in range(len(own)):
            total += (correlation(other[i], other[j]) - correlation(own[i], own[j])) ** 2
    return total / len(own) ** 2


def neighbours_by_loops(student: Tensor, teacher: Tensor) -> float:
    """A variant in circulation: products of the differences of neighbouring rows."""
    differences = (student - teacher).abs().tolist()
    products = [dot(one, following) for one, following in pairwise(differences)]
    return sum(products) / len(products)


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.float64, (2, 4, 3), elements=st.integers(-4, 4).map(float)), st.floats(0.1, 2), st.integers(1, 4))
def test_equals_the_definition_at_zero_and_equal_samples(features: np.ndarray, gamma: float, order: int) -> None:
    student, teacher = torch.from_numpy(features)
    value = correlation_congruence(student, teacher, gamma=gamma, order=order)
    expected = cckd_by_loops(student, teacher, gamma=gamma, order=order)
    assert float(value) == pytest.approx(expected, rel=1e-10, abs=1e-14)


def test_the_series_becomes_the_gaussian() -> None:
    """k = exp(-gamma |x - y|**2): of unit vectors at right angles exp(-2 gamma), of opposite ones exp(-4 gamma)."""
    student = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    teacher = torch.tensor([[2.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    expected = (math.exp(-4 * 0.4) - math.exp(-2 * 0.4)) ** 2 / 2
    assert float(correlation_congruence(student, teacher, order=20)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("kernel", "expected"), [("gaussian", math.exp(-1.6) * (0.4 * math.sqrt(2) + 0.16) ** 2 / 2), ("bilinear", 1 / 4)]
)
def test_hand_computed_case(kernel: str, expected: float) -> None:
    """The samples' cosines are 0 and 1 / sqrt 2; of the four pairs two are a sample with itself and agree.

    Gaussian: exp(-0.8) (0.8 / sqrt 2 + 0.32 / 2) on the others, squared, 2 / 4 of it. Bilinear: 1 / 2, 2 / 4 of it.
    """
    student = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    teacher = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    value = correlation_congruence(student, teacher, kernel=kernel)
    assert float(value) == pytest.approx(expected, rel=1e-12)


@both_kernels
def test_zero_at_the_teacher_turned_and_each_sample_scaled(function: Function) -> None:
    teacher = waves(4, 5)
    scales = torch.tensor([[0.1], [1.0], [2.0], [30.0]])
    assert float(function(scales * teacher @ orthogonal(5), teacher)) == pytest.approx(0, abs=1e-15)


def test_order_matters_to_differences_of_neighbours_only() -> None:
    student, teacher = waves(6, 3), waves(6, 3, phase=1.0)
    check_order(correlation_congruence, student, teacher)
    order = torch.tensor([0, 2, 4, 1, 3, 5])
    assert neighbours_by_loops(student[order], teacher[order]) != pytest.approx(
        neighbours_by_loops(student, teacher), rel=0.01
    )


@pytest.mark.parametrize("kernel", ["gaussian", "bilinear"])
def test_term(kernel: str) -> None:
    student, teacher = waves(4, 3, 1, 1), waves(4, 5, phase=1.0)
    loss = CCKDLoss(kernel=kernel, gamma=0.7, order=3, student_layers="one", teacher_layers="other")
    terms = loss(output(one=student), output(other=teacher), TARGET)
    assert list(terms) == ["cckd"]
    expected = cckd_by_loops(student, teacher, kernel=kernel, gamma=0.7, order=3)
    assert float(terms["cckd"]) == pytest.approx(expected, rel=1e-10)


def test_learned_embeddings_are_trained_and_the_teacher_is_not() -> None:
    loss = CCKDLoss(embedding_width=8)
    loss.prepare(*probes("resnet8", "resnet8x4"))
    student = waves(4, 64, 1, 1, dtype=torch.float32).requires_grad_()
    teacher = waves(4, 256, 1, 1, phase=1.0, dtype=torch.float32)
    terms = loss(output(avgpool=student), output(avgpool=teacher), TARGET)
    terms["cckd"].backward()
    weights = [loss.student_embedding[1].weight, loss.teacher_embedding[1].weight]
    assert [weight.shape for weight in weights] == [(8, 64), (8, 256)]
    assert all(parameter.grad is not None for parameter in loss.parameters())
    assert all(weight.grad.abs().sum() > 0 for weight in weights)
    assert student.grad is not None


def test_learned_embeddings_are_what_is_compared() -> None:
    loss = CCKDLoss(embedding_width=8)
    loss.prepare(*probes("resnet8", "resnet8x4"))
    loss.double()
    student, teacher = waves(4, 64, 1, 1), waves(4, 256, 1, 1, phase=1.0)
    terms = loss(output(avgpool=student), output(avgpool=teacher), TARGET)
    expected = cckd_by_loops(loss.student_embedding(student), loss.teacher_embedding(teacher))
    assert terms["cckd"].item() == pytest.approx(expected, rel=1e-10)


def test_learned_embeddings_take_half_precision() -> None:
    loss = CCKDLoss(embedding_width=8)
    loss.prepare(*probes())

    def term(dtype: torch.dtype) -> Tensor:
        student, teacher = waves(4, 64, 1, 1, dtype=dtype), waves(4, 64, 1, 1, phase=1.0, dtype=dtype)
        return loss(output(avgpool=student), output(avgpool=teacher), TARGET)["cckd"]

    exact = term(torch.float32)
    torch.testing.assert_close(term(torch.bfloat16), exact, rtol=0.05, atol=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(term(torch.bfloat16), exact, rtol=0.05, atol=1e-3)


def test_no_gradient_reaches_the_teacher() -> None:
    loss = CCKDLoss(student_layers="one", teacher_layers="other")
    student, teacher = waves(4, 3).requires_grad_(), waves(4, 5).requires_grad_()
    loss(output(one=student), output(other=teacher), TARGET)["cckd"].backward()
    assert student.grad is not None
    assert teacher.grad is None
