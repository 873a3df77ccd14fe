import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stkd_lightning.losses import LogitStandardizationLoss, standardized_kl
from stkd_lightning.tasks.types import MixedTarget, ModelOutput
from tests.losses.properties import waves


def softened(row: list[float], temperature: float) -> list[float]:
    mean = sum(row) / len(row)
    deviation = math.sqrt(sum((z - mean) ** 2 for z in row) / len(row))
    powers = [math.exp((z - mean) / deviation / temperature) for z in row]
    return [v / sum(powers) for v in powers]


def standardized_kl_by_loops(student: Tensor, teacher: Tensor, temperature: float) -> float:
    total = 0.0
    for z_s, z_t in zip(student.tolist(), teacher.tolist(), strict=True):
        p, q = softened(z_t, temperature), softened(z_s, temperature)
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / len(student)


def test_hand_computed_case() -> None:
    """Two logits are always standardized to 1 and -1.

    On the first sample the networks agree: 0. On the second they disagree: with s = 1 / (1 + exp(-2 / T)) it is
    (2 s - 1) log(s / (1 - s)) = tanh(1 / T) 2 / T. At T = 2 the loss is 4 tanh(1/2) / 2.
    """
    student = torch.tensor([[7.0, 1.0], [0.0, 0.1]], dtype=torch.float64)
    teacher = torch.tensor([[3.0, 2.0], [50.0, -50.0]], dtype=torch.float64)
    assert float(standardized_kl(student, teacher, temperature=2.0)) == pytest.approx(2 * math.tanh(0.5), rel=1e-12)


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
    value = standardized_kl(student, waves(2, classes, dtype=dtype))
    (gradient,) = torch.autograd.grad(value, student)
    assert float(gradient.abs().max()) < 1


def test_the_term() -> None:
    student, teacher = ModelOutput(waves(3, 4)), ModelOutput(waves(3, 4, phase=1.0))
    terms = LogitStandardizationLoss(temperature=3.0)(student, teacher, MixedTarget.unmixed(torch.tensor([0, 1, 2])))
    value = standardized_kl(student.logits, teacher.logits, temperature=3.0)
    torch.testing.assert_close(terms, {"logit_standardization": value})
