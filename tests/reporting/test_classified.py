import math

import pytest
import torch
from torch import Tensor

from stkd_lightning.reporting.classified import Classified


def logits(seed: int, n: int = 40, classes: int = 5) -> Tensor:
    return 3 * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed))


def images(teacher: Tensor | None = None) -> Classified:
    labels, student = torch.arange(40) % 5, logits(0)
    first = Classified.of(torch.arange(25), labels[:25], student[:25], None if teacher is None else teacher[:25])
    second = Classified.of(torch.arange(25, 40), labels[25:], student[25:], None if teacher is None else teacher[25:])
    return Classified.joined([first, second])


def distribution(row: list[float]) -> list[float]:
    powers = [math.exp(value) for value in row]
    return [power / sum(powers) for power in powers]


def test_classified_images_equal_loops() -> None:
    found = images(logits(1))
    for i, (student, teacher) in enumerate(zip(logits(0).tolist(), logits(1).tolist(), strict=True)):
        p, q = distribution(teacher), distribution(student)
        assert (found.indices[i], found.labels[i]) == (i, i % 5)
        for first, share, values in ((found.student, found.student_share, q), (found.teacher, found.teacher_share, p)):
            assert first[i] == values.index(max(values))
            assert float(share[i]) == pytest.approx(max(values), abs=1e-6)
        kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        assert float(found.divergence[i]) == pytest.approx(kl, abs=1e-4)


def test_most_wrong_images_are_the_surest_mistakes() -> None:
    found = images()
    wrong = [i for i in range(40) if found.student[i] != found.labels[i]]
    assert found.most_wrong().tolist() == sorted(wrong, key=lambda i: -float(found.student_share[i]))
    assert found.most_disagreeing().tolist() == []


def test_most_disagreeing_images_are_right_for_the_teacher_only() -> None:
    found = images(logits(1))
    lost = [i for i in range(40) if found.teacher[i] == found.labels[i] != found.student[i]]
    assert len(lost) > 2
    assert found.most_disagreeing().tolist() == sorted(lost, key=lambda i: -float(found.divergence[i]))


def test_classified_images_of_a_broken_network_have_no_nan() -> None:
    broken = torch.full((3, 4), torch.nan)
    found = Classified.of(torch.arange(3), torch.tensor([1, 1, 1]), broken, broken)
    assert found.student_share.tolist() == found.divergence.tolist() == [0, 0, 0]
    assert len(found.most_wrong()) == 3


def test_classified_images_of_half_precision_are_float32() -> None:
    found = Classified.of(torch.arange(2), torch.tensor([0, 1]), logits(0, 2).bfloat16(), logits(1, 2).half())
    assert {found.student_share.dtype, found.teacher_share.dtype, found.divergence.dtype} == {torch.float32}
