import math

import pytest
import torch

from stkd_lightning.losses import KDLoss, softened_kl
from stkd_lightning.tasks.types import MixedTarget, ModelOutput


def kl_by_loops(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> float:
    total = 0.0
    for z_s, z_t in zip(student.tolist(), teacher.tolist(), strict=True):
        p = [math.exp(z / temperature) for z in z_t]
        q = [math.exp(z / temperature) for z in z_s]
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / len(student)


def test_hand_computed_case() -> None:
    """Teacher (1/2, 1/2), student (3/4, 1/4) at T = 1: log(1/2 / 3/4) / 2 + log(1/2 / 1/4) / 2 = log(4/3) / 2."""
    student = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64)
    value = softened_kl(student, torch.zeros(1, 2, dtype=torch.float64), temperature=1.0)
    assert float(value) == pytest.approx(math.log(4 / 3) / 2, rel=1e-12)


def test_zero_where_student_is_teacher_and_blind_to_shifts() -> None:
    logits = torch.randn(3, 4, dtype=torch.float64)
    assert float(softened_kl(logits + 3.0, logits - 2.0, temperature=2.0)) == pytest.approx(0, abs=1e-12)


def test_terms_are_weighted() -> None:
    student, teacher, target = torch.randn(4, 3), torch.randn(4, 3), MixedTarget.unmixed(torch.tensor([0, 1, 2, 0]))
    terms = KDLoss(alpha=0.25, temperature=2.0)(ModelOutput(student), ModelOutput(teacher), target)
    torch.testing.assert_close(terms["kd"], 0.25 * softened_kl(student, teacher, temperature=2.0))
    torch.testing.assert_close(
        terms["cross_entropy"], 0.75 * torch.nn.functional.cross_entropy(student, target.labels[:, 0])
    )
