import math

import pytest
import torch
from torch import Tensor

from stkd_lightning.losses import NKDLoss, normalized_kd
from stkd_lightning.tasks.types import MixedTarget, ModelOutput
from tests.losses.properties import waves


def shares(row: list[float], classes: list[int], temperature: float) -> dict[int, float]:
    """Return the softmax over some classes of a row."""
    powers = {k: math.exp(row[k] / temperature) for k in classes}
    return {k: v / sum(powers.values()) for k, v in powers.items()}


def normalized_by_loops(
    student: Tensor, teacher: Tensor, target: MixedTarget, *, temperature: float, incorrect_weight: float
) -> float:
    total, every = 0.0, list(range(student.shape[1]))
    rows = zip(student.tolist(), teacher.tolist(), target.labels.tolist(), target.weights.tolist(), strict=True)
    for z_s, z_t, labels, weights in rows:
        p, q = shares(z_t, every, 1.0), shares(z_s, every, 1.0)
        total -= sum(w * p[y] * math.log(q[y]) for y, w in zip(labels, weights, strict=True))
        correct = {y for y, w in zip(labels, weights, strict=True) if w > 0}
        others = [k for k in every if k not in correct]
        p, q = shares(z_t, others, temperature), shares(z_s, others, temperature)
        total -= incorrect_weight * temperature**2 * sum(p[k] * math.log(q[k]) for k in others)
    return total / len(student)


def one_label(batch: int, classes: int) -> MixedTarget:
    return MixedTarget.unmixed(3 * torch.arange(batch) % classes)


def two_labels(batch: int, classes: int) -> MixedTarget:
    """Return mixed labels, some of two equal classes and some with weight 0."""
    i = torch.arange(batch)
    first = torch.tensor([0.25, 1.0, 0.6], dtype=torch.float64)[i % 3]
    return MixedTarget(torch.stack([i % classes, 2 * i % classes], 1), torch.stack([first, 1 - first], 1))


def test_hand_computed_case() -> None:
    """The teacher gives (1/2, 1/3, 1/6), the student (1/2, 1/4, 1/4), of which the first is correct.

    The first part is 1/2 log 2. Of the rest the teacher gives (2/3, 1/3), the student halves: log 2 at any teacher.
    """
    student = torch.tensor([[1 / 2, 1 / 4, 1 / 4]], dtype=torch.float64).log()
    teacher = torch.tensor([[1 / 2, 1 / 3, 1 / 6]], dtype=torch.float64).log()
    value = normalized_kd(student, teacher, one_label(1, 3), temperature=3.0, incorrect_weight=1.5)
    assert float(value) == pytest.approx(math.log(2) * (0.5 + 1.5 * 9), rel=1e-12)


def test_gradient_of_the_others_is_zero_at_the_teacher() -> None:
    """The second part is a cross-entropy, which is least where student and teacher are equal."""
    student, target = waves(4, 6).requires_grad_(), two_labels(4, 6)
    whole = normalized_kd(student, student.detach() + 2, target)
    first = normalized_kd(student, student.detach() + 2, target, incorrect_weight=0.0)
    (gradient,) = torch.autograd.grad(whole - first, student)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)
    assert whole > first


def test_samples_without_incorrect_classes_have_one_part() -> None:
    """Of two classes both are correct."""
    student, teacher = waves(3, 2).requires_grad_(), waves(3, 2, phase=1.0)
    labels, weights = torch.tensor([[0, 1], [1, 0], [0, 1]]), torch.tensor([[0.25, 0.75]] * 3, dtype=torch.float64)
    value = normalized_kd(student, teacher, MixedTarget(labels, weights))
    products = teacher.softmax(1) * student.log_softmax(1)
    torch.testing.assert_close(value, -(weights * products.gather(1, labels)).sum(1).mean())
    (gradient,) = torch.autograd.grad(value, student)
    assert gradient.isfinite().all()


def test_term_is_the_function_of_the_rows() -> None:
    student, teacher = ModelOutput(waves(3, 4)), ModelOutput(waves(3, 4, phase=1.0))
    loss, target = NKDLoss(temperature=2.0, incorrect_weight=1.5), two_labels(3, 4)
    value = normalized_kd(student.logits, teacher.logits, target, temperature=2.0, incorrect_weight=1.5)
    torch.testing.assert_close(loss(student, teacher, target), {"nkd": value}, rtol=0, atol=0)
    assert loss.smallest_classes == 3
