import math
from collections.abc import Callable

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stkd_lightning.losses import DKDLoss, decoupled, similarity_transfer, softened_kl
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from tests.losses.properties import (
    waves,
)

Correct = Callable[[int, int], Tensor]


def decoupled_by_loops(
    student: Tensor, teacher: Tensor, correct: Tensor, *, temperature: float, target_weight: float, other_weight: float
) -> float:
    total = 0.0
    for z_s, z_t, own in zip(student.tolist(), teacher.tolist(), correct.tolist(), strict=True):
        p = [math.exp(z / temperature) for z in z_t]
        q = [math.exp(z / temperature) for z in z_s]
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        others = [j for j, is_own in enumerate(own) if not is_own]
        target = sum(p[j] * math.log(p[j] / q[j]) for j, is_own in enumerate(own) if is_own)
        among = 0.0
        if others:
            c, d = sum(p[j] for j in others), sum(q[j] for j in others)
            target += c * math.log(c / d)
            among = sum(p[j] / c * math.log((p[j] / c) / (q[j] / d)) for j in others)
        total += target_weight * target + other_weight * among
    return temperature**2 * total / len(student)


def one_of(batch: int, classes: int) -> Tensor:
    return MixedTarget.unmixed(3 * torch.arange(batch) % classes).correct(classes)


def two_of(batch: int, classes: int) -> Tensor:
    labels = torch.stack([torch.arange(batch) % classes, 2 * torch.arange(batch) % classes], dim=1)
    return MixedTarget(labels, torch.full((batch, 2), 0.5)).correct(classes)


def test_hand_computed_case_of_two_classes() -> None:
    """One other class is certain among the others: only the target part is left, at T = 1 the divergence itself.

    Of the first sample, teacher (1/2, 1/2) and student (3/4, 1/4), it is log(4/3) / 2; of the second, teacher
    (3/4, 1/4) and student (1/2, 1/2), it is 3/4 log(3/2) + 1/4 log(1/2).
    """
    even, odd = [0.0, 0.0], [math.log(3.0), 0.0]
    student = torch.tensor([odd, even], dtype=torch.float64)
    teacher = torch.tensor([even, odd], dtype=torch.float64)
    correct = torch.tensor([[True, False], [False, True]])
    expected = (math.log(4 / 3) / 2 + 0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2
    value = decoupled(student, teacher, correct, temperature=1.0, incorrect_weight=100.0)
    assert float(value) == pytest.approx(expected, rel=1e-12)


def test_hand_computed_case_of_the_others() -> None:
    """Both give the target 1/2; of the rest the teacher gives (2/3, 1/3), the student halves.

    2/3 log(4/3) + 1/3 log(2/3) = 5/3 log 2 - log 3.
    """
    student = torch.tensor([[1 / 2, 1 / 4, 1 / 4]], dtype=torch.float64).log()
    teacher = torch.tensor([[1 / 2, 1 / 3, 1 / 6]], dtype=torch.float64).log()
    value = decoupled(student, teacher, torch.tensor([[True, False, False]]), temperature=1.0, incorrect_weight=8.0)
    assert float(value) == pytest.approx(8 * (5 / 3 * math.log(2) - math.log(3)), rel=1e-12)


def test_weighted_by_the_mass_of_the_others_it_is_the_divergence() -> None:
    for student, teacher in zip(waves(6, 1, 5), waves(6, 1, 5, phase=1.0), strict=True):
        correct = one_of(1, 5)
        mass = float((torch.softmax(teacher / 4, dim=1) * ~correct).sum())
        value = decoupled(student, teacher, correct, incorrect_weight=mass)
        assert float(value) == pytest.approx(float(softened_kl(student, teacher, temperature=4.0)), rel=1e-10)


@pytest.mark.parametrize("weight", [0.0, 0.5, 8.0])
def test_it_is_the_split_of_stkd(weight: float) -> None:
    student, teacher, correct = waves(5, 7), waves(5, 7, phase=1.0), one_of(5, 7)
    split = similarity_transfer(student, teacher, correct, incorrect_weight=weight)
    torch.testing.assert_close(decoupled(student, teacher, correct, incorrect_weight=weight), split, rtol=1e-12, atol=0)


def test_without_other_classes_only_the_divergence_is_left() -> None:
    student, teacher = waves(3, 2), waves(3, 2, phase=1.0)
    value = decoupled(student, teacher, torch.ones(3, 2, dtype=torch.bool), target_weight=2.0, incorrect_weight=8.0)
    torch.testing.assert_close(value, 2 * softened_kl(student, teacher, temperature=4.0))


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(np.float64, (2, 4, 5), elements=st.floats(-20, 20, width=32)),
    hnp.arrays(np.int64, (4, 2), elements=st.integers(0, 4)),
    st.floats(0.5, 8),
)
def test_it_is_no_less_than_zero(logits: np.ndarray, labels: np.ndarray, temperature: float) -> None:
    student, teacher = torch.from_numpy(logits)
    correct = MixedTarget(torch.from_numpy(labels), torch.full((4, 2), 0.5)).correct(5)
    assert float(decoupled(student, teacher, correct, temperature=temperature)) >= -1e-9


def test_the_term_grows_with_the_epochs() -> None:
    student, teacher = ModelOutput(waves(3, 4)), ModelOutput(waves(3, 4, phase=1.0))
    target, loss = MixedTarget.unmixed(torch.tensor([0, 1, 2])), DKDLoss(incorrect_weight=2.0, warmup=0.5)
    whole = decoupled(student.logits, teacher.logits, target.correct(4), incorrect_weight=2.0)
    for epoch, factor in enumerate([0.25, 0.5, 0.75, 1.0, 1.0]):
        torch.testing.assert_close(loss(student, teacher, target, StepContext(epoch, 8, 0)), {"dkd": factor * whole})
    torch.testing.assert_close(loss(student, teacher, target), {"dkd": whole})


def test_correct_classes_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"correct classes need the logits' shape \(4, 3\): \(4, 2\)"):
        decoupled(waves(4, 3), waves(4, 3), one_of(4, 2))
