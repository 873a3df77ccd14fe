import math

import pytest
import torch

from stkd_lightning.losses import KDLoss, softened_kl
from stkd_lightning.tasks.types import MixedTarget, ModelOutput
from stkd_lightning.utilities.errors import InputError


def kl_by_loops(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> float:
    total = 0.0
    for z_s, z_t in zip(student.tolist(), teacher.tolist(), strict=True):
        p = [math.exp(z / temperature) for z in z_t]
        q = [math.exp(z / temperature) for z in z_s]
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / len(student)


def test_equals_the_definition() -> None:
    student, teacher = torch.randn(5, 7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    expected = kl_by_loops(student, teacher, 4.0)
    assert float(softened_kl(student, teacher, temperature=4.0)) == pytest.approx(expected, rel=1e-12)


def test_hand_computed_case() -> None:
    """Teacher (1/2, 1/2), student (3/4, 1/4) at T = 1: log(1/2 / 3/4) / 2 + log(1/2 / 1/4) / 2 = log(4/3) / 2."""
    student = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64)
    value = softened_kl(student, torch.zeros(1, 2, dtype=torch.float64), temperature=1.0)
    assert float(value) == pytest.approx(math.log(4 / 3) / 2, rel=1e-12)


def test_zero_where_student_is_teacher_and_blind_to_shifts() -> None:
    logits = torch.randn(3, 4, dtype=torch.float64)
    assert float(softened_kl(logits + 3.0, logits - 2.0, temperature=2.0)) == pytest.approx(0, abs=1e-12)


def test_gradient() -> None:
    teacher = torch.randn(3, 4, dtype=torch.float64)
    student = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: softened_kl(s, teacher, temperature=3.0), student)


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    softened_kl(student, teacher, temperature=4.0).backward()
    assert student.grad is not None
    assert teacher.grad is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised(dtype: torch.dtype) -> None:
    student, teacher = torch.randn(8, 10), torch.randn(8, 10)
    value = softened_kl(student.to(dtype), teacher.to(dtype), temperature=4.0)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, softened_kl(student, teacher, temperature=4.0), rtol=0.05, atol=0.01)


def test_terms_are_weighted() -> None:
    student, teacher, target = torch.randn(4, 3), torch.randn(4, 3), MixedTarget.unmixed(torch.tensor([0, 1, 2, 0]))
    terms = KDLoss(alpha=0.25, temperature=2.0)(ModelOutput(student), ModelOutput(teacher), target)
    torch.testing.assert_close(terms["kd"], 0.25 * softened_kl(student, teacher, temperature=2.0))
    torch.testing.assert_close(
        terms["cross_entropy"], 0.75 * torch.nn.functional.cross_entropy(student, target.labels[:, 0])
    )


def test_shapes_that_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match=r"equal shape \(B, K\): \(4, 3\), \(1, 3\)"):
        softened_kl(torch.randn(4, 3), torch.randn(1, 3))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"alpha": 1.5}, r"loss.alpha=1.5: must be in \[0, 1\]; the nearest is 1"),
        ({"alpha": -0.1}, "the nearest is 0"),
        ({"alpha": float("nan")}, "must be in"),
        ({"temperature": 0}, "loss.temperature=0: must be above 0"),
        ({"temperature": "4"}, "loss.temperature='4': must be a number above 0"),
    ],
)
def test_range_errors(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        KDLoss(**arguments)


def test_a_missing_teacher_is_named() -> None:
    with pytest.raises(ValueError, match="KDLoss needs a teacher"):
        KDLoss()(ModelOutput(torch.randn(2, 3)), None, MixedTarget.unmixed(torch.tensor([0, 1])))
