"""The segmentation task: metrics against loops and torchmetrics, targets with ignored pixels, windows."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from stkd_lightning import MixedTarget, ModelOutput
from stkd_lightning.losses import CrossEntropyLoss, DKDLoss, KDLoss, Loss, STKDLoss
from stkd_lightning.tasks import Segmentation
from stkd_lightning.tasks.segmentation import sliding_window
from stkd_lightning.tasks.segmentation_metrics import (
    IGNORED,
    confusion_matrices,
    intersection_over_union,
    loggable,
)
from stkd_lightning.utilities.errors import InputError

NAMES = ("sky", "road", "car", "pole")


def batch(images: int = 5, classes: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (images, 6, 7), generator=random)
    labels[torch.rand(labels.shape, generator=random) < 0.2] = IGNORED
    student = torch.randn(images, classes, 6, 7, generator=random)
    return student, labels, student + torch.randn(student.shape, generator=random)


def confusion_by_loops(predicted: Tensor, labels: Tensor, classes: int) -> list[list[int]]:
    counts = [[0] * classes for _ in range(classes)]
    for p, y in zip(predicted.flatten().tolist(), labels.flatten().tolist(), strict=True):
        if y != IGNORED:
            counts[y][p] += 1
    return counts


def test_confusion_matrices_are_those_of_loops() -> None:
    student, labels, _ = batch()
    found = confusion_matrices(student.argmax(1), labels, 4)
    for matrix, logits, mask in zip(found, student, labels, strict=True):
        assert matrix.tolist() == confusion_by_loops(logits.argmax(0), mask, 4)


def test_iou_of_two_classes_by_hand() -> None:
    # Of class 0: 3 right, 1 taken for class 1, and 2 of class 1 taken for it: 3 / 6. Of class 1: 4 / 7.
    assert intersection_over_union(torch.tensor([[3, 1], [2, 4]])).tolist() == pytest.approx([3 / 6, 4 / 7])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_metrics_keep_precision_in_half_networks(dtype: torch.dtype) -> None:
    student, labels, teacher = (part.repeat(200, *[1] * (part.ndim - 1)) for part in batch())
    half, full = (Segmentation(NAMES).metrics() for _ in range(2))
    half.to(dtype)
    full.update(student.to(dtype), labels, teacher.to(dtype))
    expected = full.compute(with_teacher=True)
    torch.set_default_dtype(dtype)  # as Lightning's plugins for these networks do
    try:
        half.update(student.to(dtype), labels, teacher.to(dtype))
        assert half.compute(with_teacher=True) == expected
    finally:
        torch.set_default_dtype(torch.float32)


def test_metrics_are_those_of_torchmetrics() -> None:
    student, labels, teacher = batch()
    metrics = Segmentation(NAMES).metrics()
    for part in (slice(0, 2), slice(2, 5)):
        metrics.update(student[part], labels[part], teacher[part])
    values = metrics.compute(with_teacher=True)
    iou = MulticlassJaccardIndex(4, average=None, ignore_index=IGNORED)(student, labels)
    assert [float(values[f"iou/{name}"]) for name in NAMES] == pytest.approx(iou.tolist(), abs=1e-6)
    assert float(values["miou"]) == pytest.approx(float(iou.mean()), abs=1e-6)
    of_teacher = MulticlassJaccardIndex(4, ignore_index=IGNORED)(teacher, labels)
    assert float(values["teacher_miou"]) == pytest.approx(float(of_teacher), abs=1e-6)
    accuracy = MulticlassAccuracy(4, average="micro", ignore_index=IGNORED)(student, labels)
    assert float(values["pixel_accuracy"]) == pytest.approx(float(accuracy), abs=1e-6)
    assert float(values["cross_entropy"]) == pytest.approx(
        float(F.cross_entropy(student, labels, ignore_index=IGNORED)), rel=1e-5
    )
    valid = labels != IGNORED
    agreed = (student.argmax(1) == teacher.argmax(1))[valid].float().mean()
    assert float(values["agreement"]) == pytest.approx(float(agreed), abs=1e-6)
    pixels = [t.movedim(1, -1)[valid].log_softmax(-1) for t in (student, teacher)]
    kl = F.kl_div(pixels[0], pixels[1], reduction="batchmean", log_target=True)
    assert float(values["teacher_kl"]) == pytest.approx(float(kl), rel=1e-5)


def test_qualities_are_those_of_loops() -> None:
    student, labels, _ = batch(images=7)
    student[3] = F.one_hot(labels[3].where(labels[3] != IGNORED, 0), 4).movedim(-1, 0).float()  # all pixels right
    labels[6] = IGNORED  # is not counted
    metrics = Segmentation(NAMES).metrics()
    metrics.update(student, labels)
    values = metrics.compute(with_teacher=False)
    qualities, precise = [], 0
    for logits, mask in list(zip(student, labels, strict=True))[:6]:
        counts = confusion_by_loops(logits.argmax(0), mask, 4)
        present = [c for c in range(4) if sum(counts[c])]
        ious = [counts[c][c] / (sum(counts[c]) + sum(row[c] for row in counts) - counts[c][c]) for c in present]
        qualities.append(sum(ious) / len(ious))
        precise += sum(counts[c][c] for c in range(4)) / sum(map(sum, counts)) > 0.9
    mean = sum(qualities) / 6
    assert float(values["image_quality"]) == pytest.approx(mean, abs=1e-6)
    assert float(values["quality_variance"]) == pytest.approx(sum((q - mean) ** 2 for q in qualities) / 6, abs=1e-6)
    assert precise == 1
    assert float(values["high_precision"]) == pytest.approx(1 / 6)


def test_metrics_do_not_depend_on_the_order_of_batches() -> None:
    student, labels, teacher = batch(images=6)
    found = []
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]):
        metrics = Segmentation(NAMES).metrics()
        for i in order:
            metrics.update(student[i : i + 1], labels[i : i + 1], teacher[i : i + 1])
        found.append(metrics.compute(with_teacher=True))
        metrics.reset()
    for name, value in found[0].items():
        equal = torch.equal if name not in ("cross_entropy", "teacher_kl") else torch.allclose
        assert equal(value, found[1][name]), name


def test_an_absent_class_is_left_out_of_the_mean() -> None:
    labels = torch.tensor([[[0, 1], [IGNORED, 1]]])
    metrics = Segmentation(NAMES).metrics()
    metrics.update(F.one_hot(torch.tensor([[[0, 1], [3, 0]]]), 4).movedim(-1, 1).float(), labels)
    values = metrics.compute(with_teacher=False)
    # Class 0: 1 / 2; class 1: 1 / 2; the ignored pixel's prediction of class 3 counts nowhere.
    assert float(values["miou"]) == pytest.approx(0.5)
    assert math.isnan(values["iou/car"])
    assert math.isnan(values["iou/pole"])
    assert set(values) == {
        "miou", "pixel_accuracy", "cross_entropy", "image_quality", "quality_variance", "high_precision",
        *(f"iou/{name}" for name in NAMES),
    }  # fmt: skip


def test_one_class_is_refused() -> None:
    with pytest.raises(InputError, match="segmentation: needs 2 classes or more, not 1"):
        Segmentation(("sky",))


def test_names_of_metrics_suit_dashboards() -> None:
    assert loggable("traffic light: red/green") == "traffic light_ red_green"


@pytest.mark.parametrize("loss", [CrossEntropyLoss(), KDLoss(), STKDLoss(), DKDLoss()])
def test_losses_of_pixels_are_those_of_rows(loss: Loss) -> None:
    """Of valid pixels only, as if each were a sample of a classification."""
    student, labels, teacher = batch()
    target = Segmentation(NAMES).unmixed(labels)
    valid = labels != IGNORED
    rows = [t.movedim(1, -1)[valid] for t in (student, teacher)]
    expected = loss(*map(ModelOutput, rows), MixedTarget.unmixed(labels[valid]))
    found = loss(ModelOutput(student), ModelOutput(teacher), target)
    assert found.keys() == expected.keys()
    for name in found:
        assert float(found[name]) == pytest.approx(float(expected[name]), rel=1e-5), name


def test_class_weights_are_those_of_torch() -> None:
    student, labels, _ = batch()
    weights = (0.5, 2.0, 1.0, 0.0)
    target = Segmentation(NAMES, class_weights=weights).unmixed(labels)
    expected = F.cross_entropy(student, labels, torch.tensor(weights), ignore_index=IGNORED)
    found = CrossEntropyLoss()(ModelOutput(student), None, target)["cross_entropy"]
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    only = torch.full_like(labels, 3)  # the class of weight 0
    target = Segmentation(NAMES, class_weights=weights).unmixed(only)
    assert float(CrossEntropyLoss()(ModelOutput(student), None, target)["cross_entropy"]) == 0


def test_a_mixed_pixel_has_weights_of_both_classes() -> None:
    """One pixel, half class 0 of weight 3 and half class 1 of weight 1: (3 CE0 + CE1) / 4."""
    logits = torch.tensor([[1.0, 0.0]]).view(1, 2, 1, 1)
    task = Segmentation(("a", "b"), class_weights=(3.0, 1.0))
    target = task.target(torch.tensor([0, 1]).view(1, 2, 1, 1), torch.tensor([[0.5, 0.5]]))
    log = logits.flatten().log_softmax(0)
    found = CrossEntropyLoss()(ModelOutput(logits), None, target)["cross_entropy"]
    assert float(found) == pytest.approx(float(-(3 * log[0] + log[1]) / 4))


def test_windows_cover_images_and_are_averaged() -> None:
    images = torch.rand(2, 3, 20, 33)
    seen: list[tuple[int, ...]] = []

    def network(part: Tensor) -> Tensor:
        seen.append(tuple(part.shape[2:]))
        return part[:, :2] * 2

    torch.testing.assert_close(sliding_window(network, images, (12, 16)), images[:, :2] * 2)
    assert set(seen) == {(12, 16)}
    assert len(seen) == 2 * 3
    seen.clear()
    assert torch.equal(Segmentation(NAMES, window=(64, 64)).infer(network, images), images[:, :2] * 2)
    assert seen == [(20, 33)]
    torch.testing.assert_close(Segmentation(NAMES, window=(64, 8)).infer(network, images), images[:, :2] * 2)
    assert seen[1:] == [(20, 8)] * 6


def test_chance_is_below_the_least_score() -> None:
    assert Segmentation(NAMES).least_score(4) == 0.25
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    metrics = Segmentation(NAMES).metrics()
    labels[0, 0] = torch.arange(4)
    metrics.update(F.one_hot(torch.zeros_like(labels), 4).movedim(-1, 1).float(), labels)
    assert float(metrics.compute(with_teacher=False)["miou"]) < 0.25
