import math
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from stkd_lightning import Mixup, ModelOutput
from stkd_lightning.commands.training.loss_checks import check_classes
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.losses import CrossEntropyLoss, DKDLoss, KDLoss, STKDLoss
from stkd_lightning.tasks import Tagging
from stkd_lightning.tasks.clips import split_clips
from stkd_lightning.tasks.tagging import TagTarget
from stkd_lightning.tasks.tagging_metrics import TaggingMetrics
from stkd_lightning.utilities.errors import InputError
from tests.losses.properties import waves

TASK = Tagging(("dog", "drill", "siren"), prevalence=0.3)
LABELS = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 0], [0, 1, 255]])


def target(labels: Tensor) -> TagTarget:
    made = TASK.unmixed(labels)
    assert isinstance(made, TagTarget)
    return made


def outputs(*shape: int) -> tuple[ModelOutput, ModelOutput]:
    return ModelOutput(waves(*shape)), ModelOutput(2 * waves(*shape, phase=1.0))


def test_cross_entropy_is_the_binary_one_summed_over_tags() -> None:
    labels, (student, _) = LABELS[:3], outputs(3, 3)
    value = CrossEntropyLoss()(student, None, target(labels))["cross_entropy"]
    expected = F.binary_cross_entropy_with_logits(student.logits, labels.double(), reduction="none").sum(1).mean()
    torch.testing.assert_close(value, expected)


def test_unknown_tags_are_left_out_of_the_mean() -> None:
    """Of 12 tags 11 are known; the sum over them is scaled by the 3 tags of a sample and divided by 11."""
    (student, _) = outputs(4, 3)
    value = CrossEntropyLoss()(student, None, target(LABELS))["cross_entropy"]
    known = LABELS != 255
    each = F.binary_cross_entropy_with_logits(student.logits, LABELS.where(known, 0).double(), reduction="none")
    torch.testing.assert_close(value, 3 * each[known].sum() / 11)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_kd_is_the_binary_divergence_of_sigmoids(temperature: float) -> None:
    student, teacher = outputs(3, 3)
    value = KDLoss(alpha=1.0, temperature=temperature)(student, teacher, target(LABELS[:3]))["kd"]
    total = 0.0
    for z, t in zip(student.logits.flatten().tolist(), teacher.logits.flatten().tolist(), strict=True):
        q, p = 1 / (1 + math.exp(-z / temperature)), 1 / (1 + math.exp(-t / temperature))
        total += p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert float(value) == pytest.approx(temperature**2 * total / 3, rel=1e-9)


def test_stkd_of_mixed_tags_is_the_exact_divergence() -> None:
    """A row of two classes is all virtual: STKD's similarity is KD's divergence of mixed clips."""
    torch.manual_seed(0)
    virtual = Mixup(1.0)((torch.rand(3, 8), LABELS[:3]), target=TASK.target)
    student, teacher = outputs(3, 3)
    stkd = STKDLoss(alpha=1.0, temperature=2.0)(student, teacher, virtual.target)
    kd = KDLoss(alpha=1.0, temperature=2.0)(student, teacher, virtual.target)
    torch.testing.assert_close(stkd["similarity"], kd["kd"])


def test_losses_that_need_three_classes_are_known() -> None:
    assert TASK.row_classes(3) == 2
    assert DKDLoss().smallest_classes == 3
    assert STKDLoss(incorrect_weight=1.0).smallest_classes == 3
    assert KDLoss().smallest_classes < KDLoss(standardize=True).smallest_classes == 3


def test_standardized_rows_of_tags_are_refused() -> None:
    data = cast(ArrayDataModule, SimpleNamespace(name="sounds", num_classes=3, task=TASK))
    words = "loss=kd: needs 3 classes, but sounds has 2; loss=kd loss.standardize=false needs fewer"
    with pytest.raises(InputError, match=words):
        check_classes(KDLoss(standardize=True), data, "kd")
    check_classes(KDLoss(), data, "kd")


def test_logits_of_other_tags_are_refused() -> None:
    with pytest.raises(ValueError, match=r"need equal tags \(B, C\): \(3, 4\), \(3, 3\)"):
        target(LABELS[:3]).rows(torch.zeros(3, 4))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(1, 4), st.data())
def test_metrics_equal_those_of_scikit_learn(samples: int, tags: int, data: st.DataObject) -> None:
    from sklearn.metrics import auc, average_precision_score, f1_score, precision_recall_curve

    shape = samples, tags
    bits = data.draw(st.lists(st.integers(0, 1), min_size=samples * tags, max_size=samples * tags))
    ranks = data.draw(st.lists(st.integers(-3, 3), min_size=samples * tags, max_size=samples * tags))
    labels, logits = torch.tensor(bits).view(shape), torch.tensor(ranks).view(shape).float()
    metrics = TaggingMetrics(tuple("abcd"[:tags]))
    for part in (slice(0, 1), slice(1, None)):
        metrics.update(logits[part], labels[part])
    values = {name: float(value) for name, value in metrics.compute(with_teacher=False).items()}
    y, p = labels.numpy(), logits.sigmoid().numpy()
    if not y.any():
        assert math.isnan(values["micro_auprc"])
        return
    assert values["micro_auprc"] == pytest.approx(average_precision_score(y.ravel(), p.ravel()), rel=1e-5)
    precision, recall, _ = precision_recall_curve(y.ravel(), p.ravel())
    assert values["micro_auprc_trapezoidal"] == pytest.approx(auc(recall, precision), rel=1e-5)
    present = [c for c in range(tags) if y[:, c].any()]
    macro = np.mean([average_precision_score(y[:, c], p[:, c]) for c in present])
    assert values["macro_auprc"] == pytest.approx(macro, rel=1e-5)
    assert values["f1"] == pytest.approx(f1_score(y.ravel(), p.ravel() >= 0.5), rel=1e-5)
    assert [name for name in values if name.startswith("ap/")] == [f"ap/{c}" for c in "abcd"[:tags]]


def test_likeness_to_a_teacher_and_unknown_tags() -> None:
    student, teacher = waves(4, 3).float(), waves(4, 3, phase=1.0).float()
    metrics = TASK.metrics()
    metrics.update(student, LABELS, teacher)
    values = metrics.compute(with_teacher=True)
    assert float(values["agreement"]) == pytest.approx(float(((student > 0) == (teacher > 0)).float().mean()))
    loss = KDLoss(alpha=1.0, temperature=1.0)(ModelOutput(student), ModelOutput(teacher), target(LABELS.clamp(max=1)))
    torch.testing.assert_close(values["teacher_kl"], loss["kd"])
    known, other = TASK.metrics(), TASK.metrics()
    known.update(student, LABELS)
    other.update(student, LABELS.masked_fill(LABELS == 255, 1))
    assert float(known.compute(with_teacher=False)["micro_auprc"]) != float(
        other.compute(with_teacher=False)["micro_auprc"]
    )
    metrics.reset()
    metrics.update(student, LABELS)
    torch.testing.assert_close(
        metrics.compute(with_teacher=False)["micro_auprc"], known.compute(with_teacher=False)["micro_auprc"]
    )


def test_mixed_clip_is_as_long_as_its_longest_part() -> None:
    """A part of weight 0 does not count."""
    mask = torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]])
    clips = torch.stack([torch.rand(3, 4) * mask, mask], dim=1)
    mixed = torch.stack([0.25 * clips[0] + 0.75 * clips[1], 1.0 * clips[2] + 0.0 * clips[1]])
    assert split_clips(mixed)[1].tolist() == [[True] * 4, [True, False, False, False]]
    assert split_clips(torch.rand(3, 4))[1] is None
    seen = TASK.seen(target(LABELS[:3]), clips)
    assert isinstance(seen, TagTarget)
    assert seen.mask is not None
    assert seen.mask.sum(1).tolist() == [2, 4, 1]


def test_least_score_is_above_chance() -> None:
    assert TASK.least_score(3) == pytest.approx(0.6)
    assert Tagging(("a",), prevalence=0.8).least_score(1) == pytest.approx(0.9)
