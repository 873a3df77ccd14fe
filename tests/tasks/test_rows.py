"""Rows of targets: what the losses on logits compare, whatever the task."""

import pytest
import torch
from torch import Tensor

from stkd_lightning import MixedTarget, ModelOutput
from stkd_lightning.losses import (
    CrossEntropyLoss,
    CTKDLoss,
    DISTLoss,
    DKDLoss,
    KDLoss,
    Loss,
    NKDLoss,
    STKDLoss,
    WTTMLoss,
)

LOSSES = [CrossEntropyLoss(), KDLoss(), STKDLoss(), STKDLoss(incorrect_weight=0.5), DKDLoss(warmup=0), DISTLoss(),
          KDLoss(standardize=True), WTTMLoss(), NKDLoss(), CTKDLoss()]  # fmt: skip


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def total(loss: Loss, student: Tensor, teacher: Tensor, target: MixedTarget) -> Tensor:
    return sum(loss(ModelOutput(student), ModelOutput(teacher), target).values(), torch.zeros(()))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_pixels_are_rows_of_a_batch(loss: Loss) -> None:
    student, teacher = draws(2, 5, 3, 4), draws(2, 5, 3, 4, seed=1)
    labels, weights = torch.arange(48).view(2, 2, 3, 4) % 5, torch.tensor([[0.7, 0.3], [1.0, 0.0]]).double()
    flat = [t.movedim(1, -1).reshape(24, -1) for t in (student, teacher, labels)]
    expected = MixedTarget(flat[2], weights.repeat_interleave(12, 0))
    torch.testing.assert_close(
        total(loss, student, teacher, MixedTarget(labels, weights)), total(loss, flat[0], flat[1], expected)
    )


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_ignored_pixels_do_not_count(loss: Loss) -> None:
    student, teacher = draws(6, 5, 2).requires_grad_(), draws(6, 5, 2, seed=1)
    labels = torch.tensor([[0, 255], [255, 1], [2, 3], [255, 255], [4, 0], [1, 255]])[:, None]
    kept = labels[:, 0] != 255
    weights = torch.ones(6, 1, dtype=torch.float64)
    value = total(loss, student, teacher, MixedTarget(labels, weights, ignored=255))
    own, other = (t.movedim(1, -1)[kept] for t in (student, teacher))
    expected = total(loss, own, other, MixedTarget.unmixed(labels[:, 0][kept]))
    torch.testing.assert_close(value, expected)
    (gradient,) = torch.autograd.grad(value, student)
    assert not gradient.movedim(1, -1)[~kept].any()
    assert gradient.movedim(1, -1)[kept].abs().sum() > 0


def test_a_mixed_pixel_is_ignored_with_any_ignored_partner() -> None:
    labels = torch.tensor([[[0], [255]], [[1], [255]], [[255], [2]]])
    target = MixedTarget(labels, torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.3, 0.7]]), ignored=255)
    rows = target.rows(torch.zeros(3, 4, 1))
    assert rows.valid is not None
    assert rows.valid.tolist() == [False, True, False]
    assert rows.mean(torch.tensor([5.0, 3.0, 7.0])) == 3.0


def test_a_batch_without_a_valid_row_gives_zero() -> None:
    target = MixedTarget(torch.full((2, 1, 3), 255), torch.ones(2, 1), ignored=255)
    student = torch.randn(2, 4, 3, requires_grad=True)
    (value,) = CrossEntropyLoss()(ModelOutput(student), None, target).values()
    assert value == 0
    assert not torch.autograd.grad(value, student)[0].any()


def test_rows_of_other_positions_are_refused() -> None:
    target = MixedTarget.unmixed(torch.zeros(2, 3, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="equal positions"):
        target.rows(torch.zeros(2, 5, 4, 4))


def test_ignored_rows_make_one_trace() -> None:
    target = MixedTarget(torch.tensor([[[0, 255]], [[1, 2]]]), torch.ones(2, 1), ignored=255)
    student, teacher = draws(2, 4, 2), draws(2, 4, 2, seed=1)
    traced = torch.compile(lambda s, t: total(KDLoss(), s, t, target), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(traced(student, teacher), total(KDLoss(), student, teacher, target))
