import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stkd_lightning.losses import DISTLoss, inter_class, intra_class
from stkd_lightning.tasks.types import MixedTarget, ModelOutput
from stkd_lightning.utilities.errors import InputError
from tests.losses.properties import Function, check_finite, check_gradient, check_half_precision, check_order, waves

BOTH = pytest.mark.parametrize("relation", [inter_class, intra_class])


def probabilities(logits: Tensor, temperature: float) -> list[list[float]]:
    rows = [[math.exp(z / temperature) for z in row] for row in logits.tolist()]
    return [[v / sum(row) for v in row] for row in rows]


def pearson(left: list[float], right: list[float]) -> float:
    n = len(left)
    mean_left, mean_right = sum(left) / n, sum(right) / n
    covariance = sum((a - mean_left) * (b - mean_right) for a, b in zip(left, right, strict=True))
    spread_left = math.sqrt(sum((a - mean_left) ** 2 for a in left))
    spread_right = math.sqrt(sum((b - mean_right) ** 2 for b in right))
    return covariance / (spread_left * spread_right)


def relation_by_loops(student: Tensor, teacher: Tensor, temperature: float, *, over_classes: bool) -> float:
    own, other = probabilities(student, temperature), probabilities(teacher, temperature)
    if not over_classes:
        own, other = ([[row[k] for row in rows] for k in range(len(rows[0]))] for rows in (own, other))
    distances = [1 - pearson(a, b) for a, b in zip(own, other, strict=True)]
    return temperature**2 * sum(distances) / len(distances)


def logits_of(rows: Tensor, temperature: float) -> Tensor:
    return temperature * rows.log()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (5, 7), (16, 100)])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_equals_the_definition(
    shape: tuple[int, int], temperature: float, dtype: torch.dtype, tolerance: float
) -> None:
    student, teacher = 4 * waves(*shape, dtype=dtype), 4 * waves(*shape, phase=1.0, dtype=dtype)
    inter = relation_by_loops(student, teacher, temperature, over_classes=True)
    intra = relation_by_loops(student, teacher, temperature, over_classes=False)
    assert float(inter_class(student, teacher, temperature=temperature)) == pytest.approx(
        inter, rel=tolerance, abs=tolerance
    )
    assert float(intra_class(student, teacher, temperature=temperature)) == pytest.approx(
        intra, rel=tolerance, abs=tolerance
    )


def test_hand_computed_case() -> None:
    """Two values are correlated by 1 if both networks order them alike, else by -1.

    They disagree on the better class of the second sample: T**2 (0 + 2) / 2. Both take the first sample for the one
    that is more of the first class, hence less of the second: 0.
    """
    student = torch.tensor([[2.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    assert float(inter_class(student, teacher, temperature=3.0)) == pytest.approx(9, rel=1e-12)
    assert float(intra_class(student, teacher, temperature=3.0)) == pytest.approx(0, abs=1e-12)


@BOTH
@pytest.mark.parametrize("shape", [(2, 3), (4, 5)])
def test_gradient(relation: Function, shape: tuple[int, int]) -> None:
    check_gradient(relation, waves(*shape), waves(*shape, phase=1.0))


@BOTH
def test_the_order_of_the_batch_does_not_matter(relation: Function) -> None:
    check_order(relation, waves(6, 4), waves(6, 4, phase=1.0))


@BOTH
def test_zero_at_the_teacher(relation: Function) -> None:
    logits = 4 * waves(5, 6)
    assert float(relation(logits + 1.0, logits)) == pytest.approx(0, abs=1e-12)


@BOTH
@settings(max_examples=25, deadline=None)
@given(st.floats(0.05, 1))
def test_probabilities_may_be_scaled_and_moved(relation: Function, scale: float) -> None:
    """As they are when mixed with the uniform distribution."""
    teacher = torch.softmax(2 * waves(4, 5), dim=1)
    student = scale * teacher + (1 - scale) / 5
    assert float(relation(logits_of(student, 4.0), logits_of(teacher, 4.0))) == pytest.approx(0, abs=1e-9)


@BOTH
def test_the_opposite_is_twice_as_far_as_anything_uncorrelated(relation: Function) -> None:
    teacher = torch.softmax(0.1 * waves(4, 5), dim=1)
    student = 2 / 5 - teacher
    assert float(relation(logits_of(student, 4.0), logits_of(teacher, 4.0))) == pytest.approx(32, rel=1e-9)


def test_a_class_of_constant_probability_is_uncorrelated() -> None:
    """The student gives the third class exactly 0 and orders the samples as the teacher does in the other two."""
    student = torch.tensor([[2.0, 0.0, -1e4], [1.0, 3.0, -1e4]], dtype=torch.float64)
    teacher = torch.tensor([[2.0, 0.0, -1.0], [1.0, 3.0, 0.5]], dtype=torch.float64)
    assert float(intra_class(student, teacher)) == pytest.approx(16 / 3, rel=1e-9)
    check_finite(intra_class, student, teacher)


@BOTH
@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_equal_and_huge_logits_have_finite_gradients(relation: Function, scale: float) -> None:
    student, teacher = scale * waves(4, 3, dtype=torch.float32), waves(4, 3, phase=1.0, dtype=torch.float32)
    check_finite(relation, student, teacher)


@BOTH
@pytest.mark.parametrize("shape", [(4, 3), (7, 10)])
def test_equal_logits_have_no_gradient(relation: Function, shape: tuple[int, int]) -> None:
    """As of a classifier that starts at 0: what is constant is uncorrelated, in whatever direction it moves."""
    student = torch.zeros(shape, requires_grad=True)
    (gradient,) = torch.autograd.grad(relation(student, waves(*shape, dtype=torch.float32)), student)
    assert float(gradient.abs().max()) == 0


@BOTH
def test_half_precision(relation: Function) -> None:
    check_half_precision(relation, 4 * waves(8, 10), 4 * waves(8, 10, phase=1.0))


def test_terms_are_weighted() -> None:
    student, teacher = ModelOutput(waves(3, 4)), ModelOutput(waves(3, 4, phase=1.0))
    target = MixedTarget.unmixed(torch.tensor([0, 1, 2]))
    terms = DISTLoss(inter_weight=0.5, intra_weight=3.0, temperature=2.0)(student, teacher, target)
    expected = {
        "dist_inter": 0.5 * inter_class(student.logits, teacher.logits, temperature=2.0),
        "dist_intra": 3.0 * intra_class(student.logits, teacher.logits, temperature=2.0),
    }
    torch.testing.assert_close(terms, expected)


def test_what_cannot_be_compared_is_refused() -> None:
    for relation in (inter_class, intra_class):
        with pytest.raises(ValueError, match=r"need one equal shape \(B, K\): \(4, 3\), \(4, 1\)"):
            relation(waves(4, 3), waves(4, 1))
    with pytest.raises(ValueError, match=r"\(4, 3\), \(1, 3\)"):
        intra_class(waves(4, 3), waves(1, 3))
    with pytest.raises(InputError, match="needs a batch of at least 2, this one has 1"):
        intra_class(waves(1, 3), waves(1, 3))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"inter_weight": -1}, "loss.inter_weight=-1: must be at least 0"),
        ({"intra_weight": "2"}, "loss.intra_weight='2': must be a number of at least 0"),
        ({"temperature": 0}, "loss.temperature=0: must be above 0"),
    ],
)
def test_range_errors(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        DISTLoss(**arguments)


def test_a_missing_teacher_is_named() -> None:
    with pytest.raises(ValueError, match="DISTLoss needs a teacher"):
        DISTLoss()(ModelOutput(waves(2, 3)), None, MixedTarget.unmixed(torch.tensor([0, 1])))
