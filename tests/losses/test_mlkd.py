"""MLKD against loops over samples and classes."""

import math
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor

from stkd_lightning import DistillationModule, Mixup
from stkd_lightning.losses import MLKDLoss, batch_correlation, class_correlation
from stkd_lightning.models import create_model
from stkd_lightning.tasks.types import MixedTarget, ModelOutput
from stkd_lightning.teacher import FrozenTeacher
from stkd_lightning.utilities.errors import InputError
from tests.losses.properties import check_gradient, check_half_precision, waves

Rows = list[list[float]]


def softmaxes(logits: Tensor, temperature: float) -> Rows:
    powers = [[math.exp(z / temperature) for z in row] for row in logits.tolist()]
    return [[v / math.fsum(row) for v in row] for row in powers]


def standardized(logits: Tensor) -> Tensor:
    return (logits - logits.mean(1, keepdim=True)) / logits.std(1, keepdim=True)


def kl(student: Tensor, teacher: Tensor, temperature: float, weights: list[float]) -> float:
    total = 0.0
    for weight, p, q in zip(weights, softmaxes(teacher, temperature), softmaxes(student, temperature), strict=True):
        total += weight * math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / len(student)


def products(rows: Rows) -> Rows:
    return [[math.fsum(a * b for a, b in zip(one, other, strict=True)) for other in rows] for one in rows]


def correlation(student: Rows, teacher: Rows, weights: list[float]) -> float:
    """The mean over rows of the weighted squared differences of all products between rows."""
    total = 0.0
    for weight, of_teacher, of_student in zip(weights, products(teacher), products(student), strict=True):
        total += weight * math.fsum((a - b) ** 2 for a, b in zip(of_teacher, of_student, strict=True))
    return total / len(student)


def turned(rows: Rows) -> Rows:
    return [list(column) for column in zip(*rows, strict=True)]


def mlkd_by_loops(student: Tensor, teacher: Tensor, first: float, mask: str, standardize: bool) -> dict[str, float]:
    half = len(student) // 2
    weak, strong, taught_weak, taught_strong = student[:half], student[half:], teacher[:half], teacher[half:]
    p = softmaxes(taught_weak, 1.0)
    top, summed = [max(row) for row in p], [math.fsum(column) for column in turned(p)]
    samples, classes = ([float(v <= median(values)) for v in values] for values in (top, summed))
    if mask == "batch":
        samples = [sum(samples) / len(samples)] * len(samples)
        classes = [sum(classes) / len(classes)] * len(classes)
    prepare = standardized if standardize else torch.clone
    ones = [1.0] * half
    instance = class_term = batch_term = 0.0
    for t in (first, 3.0, 5.0, 2.0, 6.0):
        instance += kl(prepare(weak), prepare(taught_weak), t, samples)
        of_student, of_teacher = softmaxes(weak, t), softmaxes(taught_weak, t)
        class_term += correlation(turned(of_student), turned(of_teacher), classes)
        batch_term += correlation(of_student, of_teacher, samples)
    instance += sum(kl(prepare(strong), prepare(taught_strong), t, ones) for t in (first, 3.0, 5.0))
    instance += sum(kl(prepare(weak), prepare(taught_weak), t, ones) for t in (2.0, 6.0))
    return {"mlkd_instance": instance, "mlkd_class": class_term, "mlkd_batch": batch_term}


def terms_of(loss: MLKDLoss, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
    target = MixedTarget.unmixed(torch.zeros(len(student), dtype=torch.int64))
    return loss(ModelOutput(student), ModelOutput(teacher), target)


@pytest.mark.parametrize("mask", ["batch", "rows"])
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize(("samples", "classes"), [(6, 5), (5, 4), (2, 3)])
def test_equals_the_loops(mask: Any, standardize: bool, samples: int, classes: int) -> None:
    student, teacher = 2 * waves(2 * samples, classes), 3 * waves(2 * samples, classes, phase=1.0)
    loss = MLKDLoss(temperature=2.5, standardize=standardize, mask=mask)
    expected = mlkd_by_loops(student, teacher, 2.5, mask, standardize)
    assert {k: float(v) for k, v in terms_of(loss, student, teacher).items()} == pytest.approx(expected, rel=1e-9)


def test_hand_computed_correlations() -> None:
    """Two samples that are sure of a class each: P P^T = P^T P = 1; a student that knows nothing has 1/2 everywhere."""
    teacher, student = 1e4 * torch.eye(2, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    for function in (class_correlation, batch_correlation):
        assert function(student, teacher, temperature=4.0).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("mask", ["batch", "rows"])
def test_gradient_zero_and_half_precision(mask: Any) -> None:
    loss = MLKDLoss(mask=mask)

    def objective(student: Tensor, teacher: Tensor) -> Tensor:
        return torch.stack(list(terms_of(loss, student, teacher).values())).sum()

    student, teacher = waves(8, 5), waves(8, 5, phase=1.0)
    check_gradient(objective, student, teacher)
    check_half_precision(objective, student, teacher)
    assert float(objective(teacher, teacher)) == pytest.approx(0, abs=1e-12)


def test_views_are_needed() -> None:
    with pytest.raises(InputError, match="needs a weak and a strong view of each image; set mixup=strong_view"):
        terms_of(MLKDLoss(), torch.zeros(3, 4), torch.zeros(3, 4))
    networks = create_model("resnet8", num_classes=5), FrozenTeacher(create_model("resnet8", num_classes=5))
    for mixup in (None, Mixup(), Mixup(keep=True)):
        with pytest.raises(InputError, match="MLKDLoss: needs two views of each image; set mixup=strong_view"):
            DistillationModule(networks[0], MLKDLoss(), networks[1], mixup)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": 0}, "loss.temperature=0: must be above 0"),
        ({"mask": "row"}, "loss.mask 'row': unknown; did you"),
    ],
)
def test_errors_of_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        MLKDLoss(**options)
