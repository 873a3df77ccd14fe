import math

import pytest
import torch
from torch import Tensor

from stkd_lightning.losses import WTTMLoss, softened_kl, transformed_matching
from stkd_lightning.tasks.types import MixedTarget, ModelOutput
from tests.losses.properties import waves


def probabilities(row: list[float]) -> list[float]:
    powers = [math.exp(z) for z in row]
    return [v / sum(powers) for v in powers]


def matching_by_loops(student: Tensor, teacher: Tensor, *, temperature: float, weighted: bool) -> float:
    total = 0.0
    for z_s, z_t in zip(student.tolist(), teacher.tolist(), strict=True):
        p, q = probabilities(z_t), probabilities(z_s)
        powers = [v ** (1 / temperature) for v in p]
        s = math.fsum(powers)
        divergence = math.fsum(v / s * math.log(v / s / b) for v, b in zip(powers, q, strict=True))
        total += (s if weighted else 1.0) * divergence
    return total / len(student)


def test_hand_computed_case() -> None:
    """At T = 2 the teacher's (16, 1) / 17 becomes r = (4, 1) / 5 with S = 5 / sqrt(17).

    Of a student that gives (1/2, 1/2), KL(r || q) is 4/5 log(8/5) + 1/5 log(2/5).
    """
    student, teacher = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[16.0, 1.0]], dtype=torch.float64).log()
    divergence = 0.8 * math.log(1.6) + 0.2 * math.log(0.4)
    value = transformed_matching(student, teacher, temperature=2.0, weighted=False)
    assert float(value) == pytest.approx(divergence, rel=1e-12)
    value = transformed_matching(student, teacher, temperature=2.0)
    assert float(value) == pytest.approx(5 / math.sqrt(17) * divergence, rel=1e-12)


def test_at_temperature_one_it_is_the_divergence() -> None:
    student, teacher = waves(5, 7), waves(5, 7, phase=1.0)
    expected = softened_kl(student, teacher, temperature=1.0)
    torch.testing.assert_close(transformed_matching(student, teacher, temperature=1.0), expected)


@pytest.mark.parametrize("temperature", [2.0, 5.0, 10.0])
def test_weights_lie_between_certain_and_uniform_teachers(temperature: float) -> None:
    """S is 1 for a certain teacher, and K ** (1 - 1 / T) for one that knows nothing."""
    student = waves(1, 8)
    for teacher, s in ((1e4 * torch.eye(8)[:1].double(), 1.0), (torch.zeros_like(student), 8 ** (1 - 1 / temperature))):
        weighted = transformed_matching(student, teacher, temperature=temperature)
        plain = transformed_matching(student, teacher, temperature=temperature, weighted=False)
        torch.testing.assert_close(weighted, s * plain)


@pytest.mark.parametrize("weighted", [True, False])
def test_term_is_the_function_of_the_rows(weighted: bool) -> None:
    student, teacher = ModelOutput(waves(3, 4)), ModelOutput(waves(3, 4, phase=1.0))
    loss = WTTMLoss(temperature=3.0, weighted=weighted)
    value = transformed_matching(student.logits, teacher.logits, temperature=3.0, weighted=weighted)
    torch.testing.assert_close(
        loss(student, teacher, MixedTarget.unmixed(torch.tensor([0, 1, 2]))), {"wttm": value}, rtol=0, atol=0
    )
