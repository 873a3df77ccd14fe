import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stkd_lightning.losses import DISTLoss, inter_class, intra_class
from stkd_lightning.tasks.types import MixedTarget, ModelOutput
from stkd_lightning.utilities.errors import InputError
from tests.losses.properties import Function, check_finite, waves

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


def authors_dist(student: Tensor, teacher: Tensor, *, over_classes: bool, epsilon: float = 1e-8) -> Tensor:
    """The formula of the authors' code at T = 4, with its epsilon."""
    own, other = ((logits / 4).softmax(1) for logits in (student, teacher))
    left, right = (own, other) if over_classes else (own.T, other.T)
    left, right = (rows - rows.mean(1, keepdim=True) for rows in (left, right))
    return 16 * (1 - ((left * right).sum(1) / (left.norm(dim=1) * right.norm(dim=1) + epsilon)).mean())


@pytest.mark.parametrize(("relation", "over_classes"), [(inter_class, True), (intra_class, False)])
@pytest.mark.parametrize(("samples", "classes", "least", "most"), [(64, 100, 0, 1e-4), (4, 1000, 1e-4, 0.5)])
def test_the_epsilon_of_the_authors(
    relation: Function, over_classes: bool, samples: int, classes: int, least: float, most: float
) -> None:
    """It is small beside the norms of many samples, and damps classes that hardly vary over a small batch."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(samples, classes, generator=generator).double() for _ in range(2))
    student.mul_(0.3).requires_grad_()
    gradients = [
        torch.autograd.grad(value, student)[0]
        for value in (relation(student, 3 * teacher), authors_dist(student, 3 * teacher, over_classes=over_classes))
    ]
    change = float((gradients[0] - gradients[1]).norm() / gradients[1].norm())
    assert least <= change < most


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
@pytest.mark.parametrize("shape", [(4, 3), (7, 10)])
def test_equal_logits_have_no_gradient(relation: Function, shape: tuple[int, int]) -> None:
    """As of a classifier that starts at 0: what is constant is uncorrelated, in whatever direction it moves."""
    student = torch.zeros(shape, requires_grad=True)
    (gradient,) = torch.autograd.grad(relation(student, waves(*shape, dtype=torch.float32)), student)
    assert float(gradient.abs().max()) == 0


def test_terms_are_weighted() -> None:
    student, teacher = ModelOutput(waves(3, 4)), ModelOutput(waves(3, 4, phase=1.0))
    target = MixedTarget.unmixed(torch.tensor([0, 1, 2]))
    terms = DISTLoss(inter_weight=0.5, intra_weight=3.0, temperature=2.0)(student, teacher, target)
    expected = {
        "dist_inter": 0.5 * inter_class(student.logits, teacher.logits, temperature=2.0),
        "dist_intra": 3.0 * intra_class(student.logits, teacher.logits, temperature=2.0),
    }
    torch.testing.assert_close(terms, expected)


def test_one_sample_has_no_relation_within_a_class() -> None:
    with pytest.raises(InputError, match="needs a batch of at least 2, this one has 1"):
        intra_class(waves(1, 3), waves(1, 3))
