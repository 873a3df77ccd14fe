"""One binning for the metric and the picture, against loops in exact fractions."""

from fractions import Fraction

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from stkd_lightning.reporting.diagnose import diagnose
from stkd_lightning.tasks.calibration import calibration_error, confidence_sums, reliability
from stkd_lightning.tasks.classification import ClassificationMetrics
from stkd_lightning.tasks.types import Batch


def by_loops(logits: Tensor, labels: Tensor, bins: int) -> list[list[tuple[Fraction, bool]]]:
    """Confidence and correctness of the predictions in each bin (low, high]."""
    found: list[list[tuple[Fraction, bool]]] = [[] for _ in range(bins)]
    for row, scores, label in zip(logits.softmax(1).tolist(), logits.tolist(), labels.tolist(), strict=True):
        sure = Fraction(max(row))
        place = next(i for i in range(bins) if sure <= Fraction(i + 1, bins) or i == bins - 1)
        found[place].append((sure, scores.index(max(scores)) == label))
    return found


@settings(max_examples=40, deadline=None)
@example(n=4, classes=2, bins=2, scale=0.0, seed=0)  # confidence 1/2, on an edge
@example(n=40, classes=3, bins=15, scale=1e3, seed=0)  # confidence 1
@given(
    st.integers(1, 40), st.integers(1, 6), st.integers(1, 20), st.sampled_from([0.0, 1.0, 3.0, 50.0]), st.integers(0, 9)
)
def test_bins_equal_their_definition(n: int, classes: int, bins: int, scale: float, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logits, labels = scale * torch.randn(n, classes, generator=random), torch.randint(classes, (n,), generator=random)
    expected = by_loops(logits, labels, bins)
    sums = confidence_sums(logits, labels, bins)
    counts, confidence, accuracy = reliability(sums).tolist()
    assert counts == [len(own) for own in expected]
    means = [[sum(values) / max(1, len(own)) for values in zip(*own, strict=True)] or [0, 0] for own in expected]
    assert confidence == pytest.approx([float(sure) for sure, _ in means], abs=1e-6)
    assert accuracy == pytest.approx([float(right) for _, right in means], abs=1e-6)
    error = sum(len(own) * abs(sure - right) for own, (sure, right) in zip(expected, means, strict=True)) / n
    assert float(calibration_error(sums)) == pytest.approx(float(error), abs=1e-6)


def certain() -> Batch:
    """Half of the rows with a confidence of exactly 1, half with 0.965; five wrong labels."""
    logits, labels = torch.zeros(100, 3), torch.zeros(100, dtype=torch.long)
    logits[:50, 0], logits[50:, 0], labels[:5] = 40, 4, 1
    return Batch(logits, labels)


def test_confidence_one_is_in_the_last_bin() -> None:
    logits, labels = certain().images, certain().labels
    metrics = ClassificationMetrics()
    for part in (slice(0, 30), slice(30, 100)):
        metrics.update(logits[part], labels[part])
    assert float(metrics.compute(with_teacher=False)["calibration_error"]) == pytest.approx(0.0323, abs=1e-4)
    picture = diagnose(
        torch.nn.Identity(), None, [certain()], num_classes=3, device=torch.device("cpu"), mean=[0.0], std=[1.0]
    ).student_calibration
    assert picture[0].tolist() == [0] * 14 + [100]
    assert picture[1:, 14] == pytest.approx([0.9823, 0.95], abs=1e-4)
    metrics.reset()
    assert int(metrics.calibration.sums.sum()) == 0


def test_calibration_error_does_not_depend_on_the_order() -> None:
    random = torch.Generator().manual_seed(0)
    logits, labels = 3 * torch.randn(5000, 7, generator=random), torch.randint(7, (5000,), generator=random)
    order = torch.randperm(5000, generator=random)
    parts = zip(logits[order].split(17), labels[order].split(17), strict=True)
    assert torch.equal(sum(confidence_sums(*part) for part in parts), confidence_sums(logits, labels))


def test_calibration_error_of_nan_is_nan() -> None:
    metrics = ClassificationMetrics()
    metrics.update(torch.tensor([[1.0, 0.0], [torch.nan, 0.0]]), torch.tensor([0, 0]))
    assert metrics.compute(with_teacher=False)["calibration_error"].isnan()
