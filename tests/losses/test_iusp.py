import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stkd_lightning.losses import Features, IUSPLoss, intra_utterance_similarity
from stkd_lightning.models import Layers, NetworkInspector
from stkd_lightning.tasks.types import MixedTarget
from stkd_lightning.utilities.errors import InputError
from tests.losses.properties import (
    check_definition,
    check_finite,
    check_gradient,
    check_half_precision,
    check_order,
    dot,
    orthogonal,
    output,
    probes,
    unit,
    waves,
)

TARGET = MixedTarget.unmixed(torch.arange(2))


def mask_of(lengths: list[int], longest: int) -> Tensor:
    return torch.arange(longest) < torch.tensor(lengths)[:, None]


def iusp_by_loops(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> float:
    def similarities(frames: list[list[float]]) -> list[list[float]]:
        return [unit([dot(one, other) for other in frames]) for one in frames]

    def pooled(frames: list[list[float]], length: int) -> list[list[float]]:
        rows = []
        for i in range(length):
            span = range(math.floor(i * len(frames) / length), math.ceil((i + 1) * len(frames) / length))
            rows.append([math.fsum(frames[j][d] for j in span) / len(span) for d in range(len(frames[0]))])
        return rows

    total = 0.0
    for i in range(len(student)):
        share = 1.0 if mask is None else float(mask[i].sum()) / mask.shape[1]
        own, other = (clip[i][: math.ceil(round(len(clip[i]) * share, 9))].tolist() for clip in (student, teacher))
        length = min(len(own), len(other))
        pair = zip(similarities(pooled(own, length)), similarities(pooled(other, length)), strict=True)
        total += sum((a - b) ** 2 for rows in pair for a, b in zip(*rows, strict=True)) / length**2
    return total / len(student)


@pytest.mark.parametrize("rates", [(6, 6), (6, 12), (6, 9), (9, 6), (5, 7)])
@pytest.mark.parametrize("lengths", [None, [12, 7, 1]])
def test_definition(rates: tuple[int, int], lengths: list[int] | None) -> None:
    """Frames of equal rates, of 1:2, 2:3 and others; clips of unequal lengths, one of them a single frame."""
    student, teacher = waves(3, rates[0], 4), waves(3, rates[1], 5, phase=1.0)
    mask = None if lengths is None else mask_of(lengths, 12)
    check_definition(
        lambda s, t: intra_utterance_similarity(s, t, mask=mask),
        lambda s, t: iusp_by_loops(s, t, mask), student, teacher,
    )  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.lists(st.integers(1, 20), min_size=2, max_size=2))
def test_definition_at_any_rate_and_length(own: int, other: int, lengths: list[int]) -> None:
    student, teacher, mask = waves(2, own, 3), waves(2, other, 3, phase=1.0), mask_of(lengths, 20)
    value = float(intra_utterance_similarity(student, teacher, mask=mask))
    assert value == pytest.approx(iusp_by_loops(student, teacher, mask), rel=1e-9, abs=1e-12)


def test_hand_computed_case() -> None:
    """Two frames. The student's are alike: rows (1, 1) / sqrt 2. The teacher's are orthogonal: rows (1, 0), (0, 1).

    Each row differs by (1 / sqrt 2 - 1)**2 + 1 / 2 = 2 - sqrt 2; two rows over 2**2.
    """
    teacher = torch.eye(2, dtype=torch.float64)[None]
    value = intra_utterance_similarity(torch.ones(1, 2, 3, dtype=torch.float64), teacher)
    assert float(value) == pytest.approx((2 - math.sqrt(2)) / 2, rel=1e-12)


def test_frames_of_zeros_give_rows_of_zeros() -> None:
    """The student's second frame is zero: its G is ((1, 0), (0, 0)), the teacher's the identity; 1 over 2**2."""
    student = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]], dtype=torch.float64)
    value = intra_utterance_similarity(student, torch.eye(2, dtype=torch.float64)[None])
    assert float(value) == pytest.approx(1 / 4, rel=1e-12)
    check_finite(intra_utterance_similarity, torch.zeros(2, 3, 4, dtype=torch.float64), waves(2, 3, 4))


def test_gradients() -> None:
    check_gradient(intra_utterance_similarity, waves(2, 3, 2), waves(2, 4, 3, phase=1.0))
    mask = mask_of([6, 3], 6)
    check_gradient(lambda s, t: intra_utterance_similarity(s, t, mask=mask), waves(2, 3, 2), waves(2, 4, 3, phase=1.0))


def test_invariances() -> None:
    student, teacher = waves(4, 5, 3), waves(4, 5, 4, phase=1.0)
    check_order(intra_utterance_similarity, student, teacher)
    turned = 3 * teacher @ orthogonal(4)
    assert float(intra_utterance_similarity(turned, teacher)) == pytest.approx(0, abs=1e-15)


def test_half_precision() -> None:
    check_half_precision(intra_utterance_similarity, waves(4, 6, 5), waves(4, 9, 5, phase=1.0))


def test_padding_changes_nothing() -> None:
    """A clip alone and the same clip at the start of a batch twice as long, whose padding holds anything."""
    student, teacher = waves(1, 6, 3), waves(1, 9, 4, phase=1.0)
    padded = [
        torch.cat([clip, 100 * waves(1, clip.shape[1], clip.shape[2], phase=2.0)], 1) for clip in (student, teacher)
    ]
    alone = intra_utterance_similarity(student, teacher)
    together = intra_utterance_similarity(*padded, mask=mask_of([30], 60))
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-12)


def test_term_is_that_of_frames_and_maps() -> None:
    student, teacher = waves(2, 3, 5, 2), waves(2, 10, 4, phase=1.0)
    loss = IUSPLoss(student_layers="s", teacher_layers="t")
    mask = mask_of([8, 5], 8)
    terms = loss(output(s=student), output(t=teacher), MixedTarget(TARGET.labels, TARGET.weights, mask=mask))
    expected = iusp_by_loops(student.permute(0, 2, 1, 3).flatten(2), teacher, mask)
    assert list(terms) == ["iusp"]
    assert float(terms["iusp"]) == pytest.approx(expected, rel=1e-9)


def test_default_layers_are_the_frames() -> None:
    layers = Layers(("a",), "a", "b", "c", frames="f")
    assert IUSPLoss.default_layers(layers) == ("f",)
    loss = IUSPLoss()
    with pytest.raises(InputError, match="IUSPLoss: ResNet has no visible frames; set student_layers of the loss"):
        loss.prepare(*probes())
    assert loss.features == Features()
    assert isinstance(probes()[0], NetworkInspector)


def test_tensors_that_are_no_frames_are_named() -> None:
    with pytest.raises(ValueError, match=r"need frames \(B, T, d\) of one batch: \(2, 3\), \(2, 3, 1\)"):
        intra_utterance_similarity(torch.ones(2, 3), torch.ones(2, 3, 1))
    with pytest.raises(ValueError, match=r"the mask \(B, L\) needs the batch of the frames: \(3, 4\), \(2, 3, 1\)"):
        intra_utterance_similarity(torch.ones(2, 3, 1), torch.ones(2, 3, 1), mask=torch.ones(3, 4, dtype=torch.bool))
