"""Standardized logits as a setting of KD, STKD and DKD."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stkd_lightning.losses import (
    CrossEntropyLoss,
    DKDLoss,
    KDLoss,
    Loss,
    STKDLoss,
    WeightedSum,
    decoupled,
    similarity_transfer,
    softened_kl,
    standardized,
)
from stkd_lightning.tasks.types import MixedTarget, ModelOutput
from stkd_lightning.utilities.errors import InputError
from tests.losses.properties import waves

standardized_kl = partial(softened_kl, temperature=2.0, standardize=True)


def standardized_by_loops(logits: Tensor) -> list[list[float]]:
    rows = []
    for row in logits.tolist():
        mean = sum(row) / len(row)
        deviation = math.sqrt(sum((z - mean) ** 2 for z in row) / (len(row) - 1))
        rows.append([(z - mean) / deviation for z in row])
    return rows


def softened(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(z / temperature) for z in row]
    return [v / sum(powers) for v in powers]


def standardized_kl_by_loops(student: Tensor, teacher: Tensor, temperature: float) -> float:
    total = 0.0
    for z_s, z_t in zip(standardized_by_loops(student), standardized_by_loops(teacher), strict=True):
        p, q = softened(z_t, temperature), softened(z_s, temperature)
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / len(student)


def test_hand_computed_case() -> None:
    """Two logits are always standardized to r and -r, r = 1 / sqrt(2).

    On the first sample the networks agree: 0. On the second they disagree: with s = 1 / (1 + exp(-2 r / T)) it is
    (2 s - 1) log(s / (1 - s)) = tanh(r / T) 2 r / T. At T = 2 the loss is 4 tanh(r / 2) r / 2.
    """
    student = torch.tensor([[7.0, 1.0], [0.0, 0.1]], dtype=torch.float64)
    teacher = torch.tensor([[3.0, 2.0], [50.0, -50.0]], dtype=torch.float64)
    r = math.sqrt(0.5)
    assert float(standardized_kl(student, teacher)) == pytest.approx(2 * r * math.tanh(r / 2), rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.1, 10), st.floats(-10, 10), st.floats(0.1, 10), st.floats(-10, 10))
def test_logits_may_be_scaled_and_moved(scale: float, shift: float, other_scale: float, other_shift: float) -> None:
    student, teacher = waves(4, 5), waves(4, 5, phase=1.0)
    torch.testing.assert_close(
        standardized_kl(scale * student + shift, other_scale * teacher + other_shift),
        standardized_kl(student, teacher),
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize(("dtype", "classes"), [(torch.float32, 10), (torch.float64, 7)])
def test_equal_logits_stay_as_they_are(dtype: torch.dtype, classes: int) -> None:
    """As if both were 0: the gradient is T (softmax(0) - softmax(teacher / T)) for each of B samples, far below 1."""
    student = torch.full((2, classes), 0.1, dtype=dtype, requires_grad=True)
    assert not standardized(student).any()
    value = standardized_kl(student, waves(2, classes, dtype=dtype))
    (gradient,) = torch.autograd.grad(value, student)
    assert float(gradient.abs().max()) < 1


@pytest.mark.parametrize("scale", [0.5, 1.0, 20.0])
def test_standardized_logits_are_those_of_the_authors(scale: float) -> None:
    """The authors add 1e-7 to the deviation."""
    logits = scale * waves(6, 100)
    deviation = logits.std(dim=1, keepdim=True)
    authors = (logits - logits.mean(dim=1, keepdim=True)) / (1e-7 + deviation)
    torch.testing.assert_close(standardized(logits), authors * (1 + 1e-7 / deviation), rtol=1e-12, atol=1e-12)


CORRECT = MixedTarget(torch.tensor([[0, 1], [2, 2], [4, 0]]), torch.tensor([[0.7, 0.3]] * 3)).correct(5)
FUNCTIONS = {
    "kd": softened_kl,
    "stkd": lambda s, t, **options: similarity_transfer(s, t, CORRECT, **options),
    "stkd, weighted": lambda s, t, **options: similarity_transfer(s, t, CORRECT, incorrect_weight=0.5, **options),
    "dkd": lambda s, t, **options: decoupled(s, t, CORRECT, **options),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions_compare_standardized_logits(function: Callable[..., Tensor]) -> None:
    logits = waves(3, 5), 4 * waves(3, 5, phase=1.0) + 2
    student, teacher = (torch.tensor(standardized_by_loops(z), dtype=torch.float64) for z in logits)
    torch.testing.assert_close(
        function(*logits, temperature=2.0, standardize=True),
        function(student, teacher, temperature=2.0),
        rtol=1e-12,
        atol=0,
    )


TARGET = MixedTarget(torch.tensor([[0, 1], [2, 3], [3, 0]]), torch.tensor([[0.7, 0.3]] * 3, dtype=torch.float64))
LOSSES: dict[str, Callable[..., Loss]] = {
    "kd": KDLoss,
    "similarity": STKDLoss,
    "similarity, weighted": partial(STKDLoss, incorrect_weight=0.5),
    "dkd": DKDLoss,
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_compare_standardized_logits(name: str) -> None:
    """The cross-entropy keeps the logits as they are."""
    logits = 3 * waves(3, 5), 4 * waves(3, 5, phase=1.0)
    term = name.partition(",")[0]
    terms = LOSSES[name](temperature=3.0, standardize=True)(*map(ModelOutput, logits), TARGET)
    plain = LOSSES[name](temperature=3.0)
    expected = plain(*(ModelOutput(standardized(z)) for z in logits), TARGET)[term]
    torch.testing.assert_close(terms[term], expected, rtol=1e-12, atol=0)
    same = plain(*map(ModelOutput, logits), TARGET)
    assert terms[term] != same[term]
    assert terms.get("cross_entropy") == same.get("cross_entropy")


@pytest.mark.parametrize("build", [KDLoss, STKDLoss, DKDLoss])
def test_standardized_rows_need_three_classes(build: Callable[..., Loss]) -> None:
    assert build(standardize=True).smallest_classes == 3


@pytest.mark.parametrize("build", [KDLoss, STKDLoss, DKDLoss])
def test_a_setting_that_is_no_switch_is_named(build: Callable[..., Loss]) -> None:
    with pytest.raises(InputError, match="loss.standardize=yes: must be true or false"):
        build(standardize="yes")


def test_kd_without_hard_label_can_be_summed() -> None:
    """At alpha 1 KD has no cross-entropy term, so that another of any weight can stand beside it."""
    student, teacher = ModelOutput(waves(3, 4)), ModelOutput(waves(3, 4, phase=1.0))
    target = MixedTarget.unmixed(torch.tensor([0, 1, 2]))
    kd = KDLoss(alpha=1.0, temperature=3.0, standardize=True)
    terms = WeightedSum({"ce": CrossEntropyLoss(), "kd": kd}, {"ce": 0.1, "kd": 9.0})(student, teacher, target)
    value = softened_kl(student.logits, teacher.logits, temperature=3.0, standardize=True)
    torch.testing.assert_close(kd(student, teacher, target), {"kd": value})
    assert list(terms) == ["cross_entropy", "kd"]
    torch.testing.assert_close(terms["kd"], 9 * value)
