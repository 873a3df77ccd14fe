import math

import pytest
import torch
from torch.nn import functional as F

from stkd_lightning.losses import CrossEntropyLoss, mixed_cross_entropy
from stkd_lightning.tasks.types import MixedTarget, ModelOutput


def test_is_a_weighted_sum_of_plain_cross_entropies() -> None:
    logits = torch.randn(6, 5, dtype=torch.float64)
    labels = torch.randint(0, 5, (6, 3))
    weights = torch.rand(6, 3, dtype=torch.float64)
    weights = weights / weights.sum(1, keepdim=True)
    expected = 0.0
    for i in range(6):
        for j in range(3):
            log_sum = math.log(sum(math.exp(z) for z in logits[i].tolist()))
            expected += float(weights[i, j]) * (log_sum - float(logits[i, labels[i, j]])) / 6
    assert float(mixed_cross_entropy(logits, MixedTarget(labels, weights))) == pytest.approx(expected, rel=1e-12)


def test_unmixed_equals_torch() -> None:
    logits, labels = torch.randn(8, 7), torch.randint(0, 7, (8,))
    torch.testing.assert_close(
        mixed_cross_entropy(logits, MixedTarget.unmixed(labels)), F.cross_entropy(logits, labels)
    )


def test_equals_the_soft_label_cross_entropy_of_torch() -> None:
    logits = torch.randn(4, 3)
    target = MixedTarget(torch.tensor([[0, 1], [2, 2], [1, 0], [0, 2]]), torch.tensor([[0.3, 0.7]] * 4))
    torch.testing.assert_close(mixed_cross_entropy(logits, target), F.cross_entropy(logits, target.dense(3)))


def test_needs_no_teacher() -> None:
    loss = CrossEntropyLoss()
    terms = loss(ModelOutput(torch.randn(2, 3)), None, MixedTarget.unmixed(torch.tensor([0, 1])))
    assert loss.needs_teacher is False
    assert set(terms) == {"cross_entropy"}


def test_half_precision_is_raised() -> None:
    logits, labels = torch.randn(16, 10), torch.randint(0, 10, (16,))
    half = mixed_cross_entropy(logits.bfloat16(), MixedTarget.unmixed(labels))
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, F.cross_entropy(logits.bfloat16().float(), labels))
