"""Losses on rows of which some have no label."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from stkd_lightning import DistillationModule
from stkd_lightning.losses import CrossEntropyLoss, DKDLoss, KDLoss, Loss, STKDLoss, WeightedSum, softened_kl
from stkd_lightning.models import create_model
from stkd_lightning.tasks.classification import Classification
from stkd_lightning.tasks.types import UNLABELLED, MixedTarget, ModelOutput
from stkd_lightning.teacher import FrozenTeacher
from stkd_lightning.utilities.errors import UndefinedError
from tests.losses.properties import waves

TASK = Classification(unlabelled=True)
LABELS = torch.tensor([[0, 2], [UNLABELLED, 1], [1, UNLABELLED], [3, UNLABELLED], [2, 2], [UNLABELLED, UNLABELLED]])
WEIGHTS = torch.tensor([[0.6, 0.4], [0.7, 0.3], [0.5, 0.5], [1.0, 0.0], [0.2, 0.8], [0.9, 0.1]], dtype=torch.float64)
LABELLED = [0, 3, 4]  # the fourth is mixed with an unlabelled one of weight 0
STUDENT, TEACHER = waves(6, 5), waves(6, 5, phase=1.0)


def target() -> MixedTarget:
    return TASK.target(LABELS, WEIGHTS)


def test_a_row_is_labelled_if_all_its_parts_are() -> None:
    mixed = target()
    assert mixed.labelled is not None
    assert mixed.labelled.nonzero().flatten().tolist() == LABELLED
    assert mixed.labels.min() == 0
    assert Classification().target(LABELS.abs(), WEIGHTS).labelled is None


def entropy_by_loops() -> float:
    total = 0.0
    for row in LABELLED:
        probability = STUDENT[row].exp() / STUDENT[row].exp().sum()
        for k in range(2):
            total -= float(WEIGHTS[row, k]) * float(probability[LABELS[row, k]].log()) if WEIGHTS[row, k] else 0.0
    return total / len(LABELLED)


@pytest.mark.parametrize(
    ("make", "name", "factor"),
    [
        (CrossEntropyLoss, "cross_entropy", 1.0),
        (lambda: KDLoss(alpha=0.9), "cross_entropy", 0.1),
        (lambda: STKDLoss(alpha=0.9), "cross_entropy", 0.1),
        (lambda: WeightedSum({"ce": CrossEntropyLoss(), "kd": KDLoss(alpha=1)}), "cross_entropy", 1.0),
    ],
)
def test_the_cross_entropy_is_of_labelled_rows(make: Callable[[], Loss], name: str, factor: float) -> None:
    terms = make()(ModelOutput(STUDENT), ModelOutput(TEACHER), target())
    assert float(terms[name]) == pytest.approx(factor * entropy_by_loops(), rel=1e-10)


@pytest.mark.parametrize(("make", "name"), [(KDLoss, "kd"), (STKDLoss, "similarity")])
def test_the_teacher_teaches_all_rows(make: Callable[..., Loss], name: str) -> None:
    terms = make(alpha=0.9)(ModelOutput(STUDENT), ModelOutput(TEACHER), target())
    torch.testing.assert_close(terms[name], 0.9 * softened_kl(STUDENT, TEACHER))


def test_clean_rows_without_a_label_have_no_cross_entropy() -> None:
    labels = torch.tensor([[1], [UNLABELLED], [4]])
    rows = TASK.target(labels, torch.ones(3, 1, dtype=torch.float64))
    terms = STKDLoss(alpha=0.5, hard_label="clean")(ModelOutput(STUDENT[:3]), ModelOutput(TEACHER[:3]), rows)
    only = MixedTarget.unmixed(torch.tensor([1, 4]))
    expected = CrossEntropyLoss()(ModelOutput(STUDENT[[0, 2]]), None, only)["cross_entropy"]
    torch.testing.assert_close(terms["cross_entropy"], 0.5 * expected)


def test_no_labelled_row_gives_zero_with_finite_gradients() -> None:
    student = STUDENT.clone().requires_grad_()
    rows = TASK.target(torch.full((6, 1), UNLABELLED), torch.ones(6, 1, dtype=torch.float64))
    value = CrossEntropyLoss()(ModelOutput(student), None, rows)["cross_entropy"]
    (gradient,) = torch.autograd.grad(value, student)
    assert value == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


class OwnLoss(nn.Module):
    """A module that says nothing of labels."""


@pytest.mark.parametrize("loss", [DKDLoss(), OwnLoss(), WeightedSum({"kd": KDLoss(), "own": OwnLoss()})])
def test_a_module_refuses_losses_that_read_labels(loss: nn.Module) -> None:
    teacher = FrozenTeacher(create_model("resnet8", num_classes=5))
    student = create_model("resnet8", num_classes=5)
    with pytest.raises(UndefinedError, match="reads the label of each image"):
        DistillationModule(student, loss, teacher, task=TASK)
    DistillationModule(student, KDLoss(), teacher, task=TASK)


def test_losses_say_if_they_read_labels() -> None:
    without = (CrossEntropyLoss(), KDLoss(), STKDLoss(), WeightedSum({"kd": KDLoss()}))
    assert not any(loss.needs_labels for loss in without)
    reading = (DKDLoss(), STKDLoss(incorrect_weight=1.0), WeightedSum({"dkd": DKDLoss()}), Loss())
    assert all(loss.needs_labels for loss in reading)
