import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_confusion_matrix,
    multiclass_precision,
    multiclass_recall,
)

from stkd_lightning.reporting.class_counts import ClassCounts, Outcomes, confused_pairs, confusion_matrix, summed


@pytest.mark.parametrize("classes", [2, 7, 250])
def test_counts_equal_those_of_torchmetrics(classes: int) -> None:
    random = torch.Generator().manual_seed(0)
    labels, first = (torch.randint(classes, (400,), generator=random) for _ in range(2))
    labels = labels.where(labels != 1, 0)  # a class without images
    counts = ClassCounts.of(labels.numpy(), first.numpy(), classes)
    matrix = multiclass_confusion_matrix(first, labels, classes).numpy()
    assert np.array_equal(confusion_matrix(labels.numpy(), first.numpy(), classes), matrix)
    recall, precision = (
        f(first, labels, classes, average=None).numpy() for f in (multiclass_recall, multiclass_precision)
    )
    for values, expected, whole in ((counts.accuracy, recall, 1), (counts.precision, precision, 0)):
        known = matrix.sum(whole) > 0
        assert np.allclose(values[known], expected[known])
        assert np.isnan(values[~known]).all()
    assert np.isnan(counts.accuracy[1])


def test_confused_pairs_are_the_matrix_without_its_diagonal() -> None:
    labels, first = np.array([0, 0, 2, 2, 2, 1, 1]), np.array([1, 0, 0, 0, 2, 2, 2], dtype=np.int32)
    assert confused_pairs(labels, first, 3) == [(1, 2, 2), (2, 0, 2), (0, 1, 1)]
    assert confused_pairs(labels, labels, 3) == []


def test_lowest_classes_have_images() -> None:
    counts = ClassCounts.of(np.array([0, 0, 1, 1, 1, 3]), np.array([1, 1, 0, 0, 0, 3]), 4)
    assert counts.lowest(2) == [1, 0]  # equal accuracies: that of more images is first
    assert counts.lowest(9) == [1, 0, 3]


def test_outcomes_are_counted_for_each_image() -> None:
    labels, student, teacher = np.array([[0, 0, 0], [1, 1, 0], [2, 0, 2], [3, 3, 0], [4, 0, 0], [5, 0, 5]]).T
    outcomes = Outcomes.of(labels, student, teacher)
    assert outcomes == (1, 2, 2, 1)
    assert outcomes.text == "both right 1, only the teacher right 2, only the student right 2, both wrong 1"
    assert summed([outcomes, outcomes]) == (2, 4, 4, 2)
