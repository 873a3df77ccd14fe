import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from stkd_lightning.losses import CrossEntropyLoss, mixed_cross_entropy
from stkd_lightning.tasks.types import MixedTarget, ModelOutput
from stkd_lightning.utilities.errors import InputError


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


@pytest.mark.parametrize("weighted", [False, True])
def test_smoothed_labels_equal_torchs(weighted: bool) -> None:
    random = torch.Generator().manual_seed(3)
    logits, labels = torch.randn(6, 5, generator=random).double(), torch.randint(0, 5, (6,), generator=random)
    class_weights = torch.rand(5, generator=random).double() + 0.1 if weighted else None
    target = replace(MixedTarget.unmixed(labels), class_weights=class_weights)
    expected = F.cross_entropy(logits, labels, class_weights, label_smoothing=0.2)
    torch.testing.assert_close(mixed_cross_entropy(logits, target, smoothing=0.2), expected)


def test_smoothed_mixed_labels_equal_torchs() -> None:
    random = torch.Generator().manual_seed(4)
    logits, labels = torch.randn(6, 5, generator=random).double(), torch.randint(0, 5, (6, 2), generator=random)
    first = torch.rand(6, 1, generator=random).double()
    target = MixedTarget(labels, torch.cat([first, 1 - first], dim=1))
    loss = CrossEntropyLoss(label_smoothing=0.3)(ModelOutput(logits, {}), None, target)["cross_entropy"]
    torch.testing.assert_close(loss, F.cross_entropy(logits, target.dense(5), label_smoothing=0.3))


def test_label_smoothing_outside_its_range_is_refused() -> None:
    with pytest.raises(InputError, match="label_smoothing=1.5: must be in"):
        CrossEntropyLoss(label_smoothing=1.5)
