"""STKD's identities hold to 1e-10 relative in float64 and 1e-6 in float32."""

import math
from collections.abc import Callable
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stkd_lightning.losses import KDLoss, STKDLoss, mixed_cross_entropy, similarity_transfer, softened_kl
from stkd_lightning.tasks.types import MixedTarget, ModelOutput
from stkd_lightning.utilities.errors import InputError

logit_pairs = hnp.arrays(np.float64, (2, 5, 6), elements=st.floats(-8, 8, width=32))
label_pairs = hnp.arrays(np.int64, (5, 2), elements=st.integers(0, 5))


def split_by_loops(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    weights: Tensor,
    temperature: float,
    incorrect_weight: float | None,
) -> float:
    """The split of the divergence, sample by sample, from its statement."""
    total = 0.0
    for z_s, z_t, own, w in zip(student.tolist(), teacher.tolist(), labels.tolist(), weights.tolist(), strict=True):
        p = [math.exp(z / temperature) for z in z_t]
        q = [math.exp(z / temperature) for z in z_s]
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        correct = {label for label, weight in zip(own, w, strict=True) if weight > 0}
        incorrect = [j for j in range(len(p)) if j not in correct]
        total += sum(p[j] * math.log(p[j] / q[j]) for j in correct)
        if incorrect:
            c, d = sum(p[j] for j in incorrect), sum(q[j] for j in incorrect)
            within = sum(p[j] / c * math.log((p[j] / c) / (q[j] / d)) for j in incorrect)
            total += c * math.log(c / d) + (c if incorrect_weight is None else incorrect_weight) * within
    return temperature**2 * total / len(student)


def assert_near(a: Tensor, b: Tensor | float) -> None:
    tolerance = 1e-10 if a.dtype == torch.float64 else 1e-6
    assert float(a) == pytest.approx(float(b), rel=tolerance, abs=tolerance)


@settings(max_examples=50, deadline=None)
@given(logit_pairs, label_pairs, st.floats(0, 1), st.sampled_from([None, 0.0, 0.5, 2.0]), st.floats(0.5, 8))
def test_equals_the_split_by_loops(
    logits: np.ndarray, labels: np.ndarray, share: float, incorrect_weight: float | None, temperature: float
) -> None:
    student, teacher = torch.from_numpy(logits)
    target = MixedTarget(torch.from_numpy(labels), torch.tensor([[share, 1 - share]] * 5, dtype=torch.float64))
    value = similarity_transfer(
        student, teacher, target.correct(6), temperature=temperature, incorrect_weight=incorrect_weight
    )
    expected = split_by_loops(student, teacher, target.labels, target.weights, temperature, incorrect_weight)
    assert float(value) == pytest.approx(expected, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
class TestIdentities:
    def outputs(self, dtype: torch.dtype, classes: int = 6) -> tuple[ModelOutput, ModelOutput, Tensor]:
        torch.manual_seed(0)
        make = lambda: ModelOutput(torch.randn(8, classes, dtype=dtype) * 2)  # noqa: E731
        return make(), make(), torch.randint(0, classes, (8, 2))

    def test_weight_one_gives_kd(self, dtype: torch.dtype) -> None:
        student, teacher, labels = self.outputs(dtype)
        mixed = MixedTarget(labels, torch.tensor([[1.0, 0.0]] * 8, dtype=dtype))
        stkd = STKDLoss(alpha=0.7, temperature=3.0)(student, teacher, mixed)
        kd = KDLoss(alpha=0.7, temperature=3.0)(student, teacher, MixedTarget.unmixed(labels[:, 0]))
        assert_near(sum(stkd.values(), torch.zeros((), dtype=dtype)), sum(kd.values()))

    def test_alpha_zero_gives_mixup_training(self, dtype: torch.dtype) -> None:
        student, teacher, labels = self.outputs(dtype)
        mixed = MixedTarget(labels, torch.tensor([[0.3, 0.7]] * 8, dtype=dtype))
        terms = STKDLoss(alpha=0.0)(student, teacher, mixed)
        assert_near(sum(terms.values(), torch.zeros((), dtype=dtype)), mixed_cross_entropy(student.logits, mixed))

    def test_the_parts_add_up_to_the_divergence(self, dtype: torch.dtype) -> None:
        """With the weight set to the teacher's own incorrect mass, sample by sample, the split is the exact KL."""
        student, teacher, labels = self.outputs(dtype)
        for i in range(8):
            one_student, one_teacher = student.logits[i : i + 1], teacher.logits[i : i + 1]
            correct = MixedTarget(labels[i : i + 1], torch.tensor([[0.5, 0.5]])).correct(6)
            mass = float((torch.softmax(one_teacher / 4, 1) * ~correct).sum())
            split = similarity_transfer(one_student, one_teacher, correct, incorrect_weight=mass)
            assert_near(split, softened_kl(one_student, one_teacher, temperature=4.0))
            assert_near(similarity_transfer(one_student, one_teacher, correct), softened_kl(one_student, one_teacher))

    @pytest.mark.parametrize("incorrect_weight", [None, 0.5])
    def test_the_order_of_a_mix_does_not_matter(self, dtype: torch.dtype, incorrect_weight: float | None) -> None:
        student, teacher, labels = self.outputs(dtype)
        weights = torch.tensor([[0.3, 0.7]] * 8, dtype=dtype)
        loss = STKDLoss(incorrect_weight=incorrect_weight)
        one = loss(student, teacher, MixedTarget(labels, weights))
        other = loss(student, teacher, MixedTarget(labels.flip(1), weights.flip(1)))
        for name in one:
            assert_near(one[name], other[name])

    @pytest.mark.parametrize("incorrect_weight", [None, 0.5])
    def test_shifted_logits_change_nothing(self, dtype: torch.dtype, incorrect_weight: float | None) -> None:
        student, teacher, labels = self.outputs(dtype)
        target = MixedTarget(labels, torch.tensor([[0.3, 0.7]] * 8, dtype=dtype))
        loss = STKDLoss(incorrect_weight=incorrect_weight)
        one = loss(student, teacher, target)
        other = loss(ModelOutput(student.logits + 2.0), ModelOutput(teacher.logits - 1.0), target)
        for name in one:
            # Adding a constant rounds the logits themselves by half an ulp of their new size.
            assert float(one[name]) == pytest.approx(float(other[name]), rel=1e-5 if dtype == torch.float32 else 1e-10)

    @pytest.mark.parametrize("incorrect_weight", [None, 0.0, 1.0])
    def test_zero_at_the_teacher(self, dtype: torch.dtype, incorrect_weight: float | None) -> None:
        _, teacher, labels = self.outputs(dtype)
        correct = MixedTarget(labels, torch.full((8, 2), 0.5)).correct(6)
        assert_near(
            similarity_transfer(teacher.logits, teacher.logits, correct, incorrect_weight=incorrect_weight), 0.0
        )


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("incorrect_weight", [None, 0.0, 0.7])
def test_gradient(classes: int, incorrect_weight: float | None) -> None:
    """Two classes mixed leave no incorrect class, in some rows of the batch and not in others."""
    torch.manual_seed(classes)
    teacher = torch.randn(4, classes, dtype=torch.float64)
    student = torch.randn(4, classes, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[0, 1], [1, 1], [1, 0], [0, 0]])
    correct = MixedTarget(labels, torch.full((4, 2), 0.5)).correct(classes)

    def function(s: Tensor) -> Tensor:
        return similarity_transfer(s, teacher, correct, temperature=2.0, incorrect_weight=incorrect_weight)

    assert torch.autograd.gradcheck(function, student)
    function(student).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_two_mixed_classes_leave_the_correct_part_alone() -> None:
    student = torch.tensor([[0.4, -0.3]], dtype=torch.float64)
    teacher = torch.tensor([[-0.2, 0.9]], dtype=torch.float64)
    everything = torch.tensor([[True, True]])
    assert_near(
        similarity_transfer(student, teacher, everything, incorrect_weight=5.0),
        softened_kl(student, teacher, temperature=4.0),
    )


def test_far_logits_stay_finite() -> None:
    student = torch.tensor([[300.0, 0.0, -300.0]], requires_grad=True)
    teacher = torch.tensor([[-300.0, 200.0, 0.0]])
    correct = torch.tensor([[True, False, False]])
    value = similarity_transfer(student, teacher, correct, temperature=1.0, incorrect_weight=1.0)
    value.backward()
    assert value.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_the_hard_label_can_be_left_out() -> None:
    student, teacher = ModelOutput(torch.randn(2, 3)), ModelOutput(torch.randn(2, 3))
    target = MixedTarget.unmixed(torch.tensor([0, 1]))
    assert set(STKDLoss(hard_label="none")(student, teacher, target)) == {"similarity"}
    assert set(STKDLoss()(student, teacher, target)) == {"similarity", "cross_entropy"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised(dtype: torch.dtype) -> None:
    student, teacher = torch.randn(8, 6), torch.randn(8, 6)
    correct = MixedTarget.unmixed(torch.arange(8) % 6).correct(6)
    half = similarity_transfer(student.to(dtype), teacher.to(dtype), correct, incorrect_weight=1.0)
    assert half.dtype == torch.float32
    torch.testing.assert_close(
        half, similarity_transfer(student, teacher, correct, incorrect_weight=1.0), rtol=0.05, atol=0.01
    )


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(InputError, match=r"loss.hard_label 'mixd': unknown; did you mean mixed\?"):
        STKDLoss(hard_label="mixd")
    with pytest.raises(InputError, match="loss.incorrect_weight=-1"):
        STKDLoss(incorrect_weight=-1)
    with pytest.raises(ValueError, match="correct classes need the logits' shape"):
        similarity_transfer(torch.randn(2, 3), torch.randn(2, 3), torch.ones(2, 2, dtype=torch.bool))


def rows_by_loops(
    student: Tensor, teacher: Tensor, target: MixedTarget, hard_label: str, mixed_weight: float, alpha: float
) -> dict[str, float]:
    """The terms from their statement: means over the clean and over the mixed rows, at temperature 2."""
    assert target.clean is not None
    groups: dict[bool, list[int]] = {True: [], False: []}
    for i, clean in enumerate(target.clean.tolist()):
        groups[clean].append(i)

    def mean(rows: list[int], value: Callable[[int], float]) -> float:
        return sum(value(i) for i in rows) / len(rows) if rows else 0.0

    def divergence(i: int) -> float:
        p, q = torch.softmax(teacher[i] / 2, 0), torch.softmax(student[i] / 2, 0)
        return 4 * float((p * (p / q).log()).sum())

    def cross_entropy(i: int) -> float:
        log_q = torch.log_softmax(student[i], 0)
        return -sum(float(w) * float(log_q[j]) for j, w in zip(target.labels[i], target.weights[i], strict=True))

    def with_teacher(i: int) -> float:
        return -float(torch.log_softmax(student[i], 0)[int(teacher[i].argmax())])

    terms = {
        "similarity": alpha * mean(groups[True], divergence),
        "similarity_mixed": alpha * mixed_weight * mean(groups[False], divergence),
    }
    labelled = groups[True] + groups[False] if hard_label == "mixed" else groups[True]
    if hard_label != "none":
        terms["cross_entropy"] = (1 - alpha) * mean(labelled, cross_entropy)
    if hard_label == "teacher":
        terms["cross_entropy_mixed"] = (1 - alpha) * mean(groups[False], with_teacher)
    return terms


CLEAN = [[True] * 3 + [False] * 5, [False] * 8, [True] * 8]


@pytest.mark.parametrize("hard_label", ["mixed", "clean", "teacher", "none"])
@pytest.mark.parametrize("clean", CLEAN, ids=["some", "none", "all"])
@pytest.mark.parametrize("mixed_weight", [0.0, 0.5, 1.0])
def test_clean_and_mixed_rows_have_means_of_their_own(hard_label: Any, clean: list[bool], mixed_weight: float) -> None:
    torch.manual_seed(2)
    student, teacher = torch.randn(8, 6, dtype=torch.float64, requires_grad=True), torch.randn(8, 6).double()
    weights = torch.where(torch.tensor(clean)[:, None], torch.tensor([1.0, 0.0]), torch.tensor([0.3, 0.7])).double()
    target = MixedTarget(torch.randint(0, 6, (8, 2)), weights, clean=torch.tensor(clean))
    loss = STKDLoss(alpha=0.8, temperature=2.0, hard_label=hard_label, mixed_weight=mixed_weight)
    terms = loss(ModelOutput(student), ModelOutput(teacher), target)
    expected = rows_by_loops(student.detach(), teacher, target, hard_label, mixed_weight, 0.8)
    assert {name: float(value.detach()) for name, value in terms.items()} == pytest.approx(expected, rel=1e-9)

    def objective(logits: Tensor) -> Tensor:
        return sum(loss(ModelOutput(logits), ModelOutput(teacher), target).values(), torch.zeros(()).double())

    assert torch.autograd.gradcheck(objective, student)
    (gradient,) = torch.autograd.grad(objective(student), student)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("clean", CLEAN[1:], ids=["none", "all"])
def test_rows_of_one_kind_give_the_one_mean(clean: list[bool]) -> None:
    """With weight 1 the split changes nothing where a batch is all mixed or all clean."""
    torch.manual_seed(3)
    student, teacher = ModelOutput(torch.randn(8, 6).double()), ModelOutput(torch.randn(8, 6).double())
    target = MixedTarget(torch.randint(0, 6, (8, 2)), torch.tensor([[0.3, 0.7]] * 8), clean=torch.tensor(clean))
    split, whole = STKDLoss(mixed_weight=1.0)(student, teacher, target), STKDLoss()(student, teacher, target)
    assert_near(split["similarity"] + split["similarity_mixed"], whole["similarity"])
    assert_near(split["cross_entropy"], whole["cross_entropy"])


def test_targets_without_a_flag_are_mixed_if_they_have_partners() -> None:
    student, teacher = ModelOutput(torch.randn(4, 3)), ModelOutput(torch.randn(4, 3))
    loss, labels = STKDLoss(mixed_weight=1.0), torch.zeros(4, 2, dtype=torch.int64)
    assert loss(student, teacher, MixedTarget(labels, torch.full((4, 2), 0.5)))["similarity"] == 0
    assert loss(student, teacher, MixedTarget.unmixed(labels[:, 0]))["similarity_mixed"] == 0


def test_weight_of_mixed_rows_has_a_range() -> None:
    with pytest.raises(InputError, match="loss.mixed_weight=-1: must be at least 0"):
        STKDLoss(mixed_weight=-1)
