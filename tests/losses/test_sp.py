import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stkd_lightning.losses import SPLoss, similarity_preserving
from stkd_lightning.tasks.types import MixedTarget
from tests.losses.properties import (
    dot,
    orthogonal,
    output,
    unit,
    waves,
)

TARGET = MixedTarget.unmixed(torch.arange(4))


def sp_by_loops(student: Tensor, teacher: Tensor) -> float:
    def similarities(features: Tensor) -> list[list[float]]:
        samples = features.flatten(1).tolist()
        return [unit([dot(one, other) for other in samples]) for one in samples]

    total = 0.0
    for own, other in zip(similarities(student), similarities(teacher), strict=True):
        total += sum((a - b) ** 2 for a, b in zip(own, other, strict=True))
    return total / len(student) ** 2


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.float64, (2, 4, 3), elements=st.integers(-4, 4).map(float)))
def test_equals_the_definition_at_zero_and_equal_samples(features: np.ndarray) -> None:
    """Rows are unit vectors or zero, so that no entry of the mean is above that of two opposite rows, 4 / B."""
    student, teacher = torch.from_numpy(features)
    value = float(similarity_preserving(student, teacher))
    assert value == pytest.approx(sp_by_loops(student, teacher), rel=1e-10, abs=1e-12)
    assert 0 <= value <= 4 / 4


def test_hand_computed_case() -> None:
    """Student G is the identity, of unit rows already. Teacher G = [[1, 1], [1, 2]], rows over sqrt 2 and sqrt 5.

    First row (1 / sqrt 2 - 1)**2 + 1 / 2 = 2 - sqrt 2, second 1 / 5 + (2 / sqrt 5 - 1)**2 = 2 - 4 / sqrt 5, over 2**2.
    """
    student = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    teacher = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    expected = (4 - math.sqrt(2) - 4 / math.sqrt(5)) / 4
    assert float(similarity_preserving(student, teacher)) == pytest.approx(expected, rel=1e-12)


def test_zero_where_student_is_teacher_turned_and_scaled() -> None:
    teacher = waves(4, 5)
    assert float(similarity_preserving(3 * teacher @ orthogonal(5), teacher)) == pytest.approx(0, abs=1e-15)


def test_the_scale_of_one_sample_matters() -> None:
    """Row i forgets the length of sample i, but the other rows have its length in their column i."""
    student, teacher = waves(3, 4), waves(3, 4, phase=1.0)
    scaled = student * torch.tensor([[1.0], [1.0], [3.0]])
    assert float(similarity_preserving(scaled, teacher)) != pytest.approx(
        float(similarity_preserving(student, teacher)), rel=1e-3
    )


def test_term() -> None:
    student, teacher = waves(4, 3, 2, 2), waves(4, 5, phase=1.0)
    loss = SPLoss(student_layers="one", teacher_layers="other")
    terms = loss(output(one=student), output(other=teacher), TARGET)
    assert list(terms) == ["sp"]
    assert float(terms["sp"]) == pytest.approx(sp_by_loops(student, teacher), rel=1e-10)
