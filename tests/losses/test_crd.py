import copy
import math
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from stkd_lightning import DistillationModule, Mixup
from stkd_lightning.losses import CRDLoss, contrastive_representation, crd
from stkd_lightning.models import create_model
from stkd_lightning.tasks.types import MixedTarget, StepContext
from stkd_lightning.teacher import FrozenTeacher
from stkd_lightning.utilities.errors import InputError
from tests.losses.maps import Told, all_learn, array, fit, prepared
from tests.losses.properties import check_definition, dot, output, unit, waves

SAMPLES, CLASSES = 12, 3
LABELS = torch.arange(SAMPLES) % CLASSES
Rows = list[list[float]]


def directions(*shape: int, phase: float = 0.0) -> Tensor:
    return F.normalize(waves(*shape, phase=phase), dim=1)


def contrast_by_loops(
    anchors: Rows, memory: Rows, indices: list[list[int]], *, normalizer: float, temperature: float
) -> float:
    """Eq. 18 for one direction; of each row of indices the first is the positive."""
    total = 0.0
    for anchor, (positive, *negatives) in zip(anchors, indices, strict=True):
        noise = len(negatives) / len(memory)
        odds = math.exp(dot(anchor, memory[positive]) / temperature) / normalizer
        total -= math.log(odds / (odds + noise))
        for negative in negatives:
            odds = math.exp(dot(anchor, memory[negative]) / temperature) / normalizer
            total -= math.log(noise / (odds + noise))
    return total / len(anchors)


def normalizer_by_loops(anchors: Rows, memory: Rows, temperature: float) -> float:
    powers = [math.exp(dot(anchor, sample) / temperature) for anchor in anchors for sample in memory]
    return len(memory) * sum(powers) / len(powers)


class Seen:
    """A small loss on features of 4 and 5 values, and the samples that it compares."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        settings: dict[str, Any] = {"num_samples": SAMPLES, "negatives": 6, "width": 3, "temperature": 0.5}
        self.loss = CRDLoss(student_layers="s", teacher_layers="t", **settings | options)
        fit(self.loss, output(s=waves(1, 4)), output(t=waves(1, 5)))
        self.indices = torch.empty(0)

        def watch(*arguments: Tensor, indices: Tensor, **rest: Any) -> Tensor:
            self.indices = indices
            return contrastive_representation(*arguments, indices=indices, **rest)

        monkeypatch.setattr(crd, "contrastive_representation", watch)

    def __call__(self, samples: list[int], epoch: int = 0, step: int = 0, labels: Tensor = LABELS) -> Tensor:
        return show(self.loss, samples, epoch, step, labels)


def show(loss: CRDLoss, samples: list[int], epoch: int = 0, step: int = 0, labels: Tensor = LABELS) -> Tensor:
    """Show samples whose features are their own and change with the step."""
    indices, target = torch.tensor(samples), MixedTarget.unmixed(labels[samples])
    own, other = output(s=waves(SAMPLES, 4, phase=0.1 * step)[indices]), output(t=waves(SAMPLES, 5, phase=1.0)[indices])
    return loss(own, other, target, StepContext(epoch, 10, step, indices))["crd"]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    return Seen(monkeypatch)


def contrast(student: Tensor, teacher: Tensor, samples: int = 20, negatives: int = 5) -> Tensor:
    student_memory, teacher_memory = (directions(samples, student.shape[1], phase=phase) for phase in (2.0, 3.0))
    return contrastive_representation(
        student,
        teacher,
        student_memory=student_memory,
        teacher_memory=teacher_memory,
        indices=compared(len(student), samples, negatives),
        normalizers=torch.tensor([1.5, -0.5], dtype=torch.float64),
        temperature=0.2,
    )


def compared(batch: int, samples: int, negatives: int) -> Tensor:
    return 7 * torch.arange(batch * (1 + negatives)).view(batch, -1) % samples


@pytest.mark.parametrize(("batch", "width", "samples", "negatives"), [(1, 2, 3, 1), (4, 3, 10, 5), (5, 8, 40, 30)])
def test_equals_the_definition(batch: int, width: int, samples: int, negatives: int) -> None:
    def by_loops(student: Tensor, teacher: Tensor) -> float:
        indices = compared(batch, samples, negatives).tolist()
        student_memory, teacher_memory = (directions(samples, width, phase=phase).tolist() for phase in (2.0, 3.0))
        pairs = (student, teacher_memory, 1.5), (teacher, student_memory, -0.5)
        return sum(
            contrast_by_loops(anchors.tolist(), memory, indices, normalizer=math.exp(log), temperature=0.2)
            for anchors, memory, log in pairs
        )

    student, teacher = directions(batch, width), directions(batch, width, phase=1.0)
    check_definition(lambda s, t: contrast(s, t, samples, negatives), by_loops, student, teacher)


def test_hand_computed_case() -> None:
    """Two samples, one negative each, T = 1, log Z = 0: the noise K / N is 1/2.

    Each anchor is its positive's memory, e**1, and at right angles to its negative's, e**0: of each of both directions
    -log(e / (e + 1/2)) - log(1/2 / (1 + 1/2)) = log(1 + 1 / (2 e)) + log 3.
    """
    axes = torch.eye(2, dtype=torch.float64)
    value = contrastive_representation(
        axes,
        axes,
        student_memory=axes,
        teacher_memory=axes,
        indices=torch.tensor([[0, 1], [1, 0]]),
        normalizers=torch.zeros(2, dtype=torch.float64),
        temperature=1.0,
    )
    assert float(value) == pytest.approx(2 * (math.log(1 + 1 / (2 * math.e)) + math.log(3)), rel=1e-12)


def test_gradient() -> None:
    """It reaches both networks' embeddings, of which the teacher's has a learned map."""
    embeddings = directions(3, 4).requires_grad_(), directions(3, 4, phase=1.0).requires_grad_()
    assert torch.autograd.gradcheck(contrast, embeddings)


@settings(max_examples=25, deadline=None)
@given(st.floats(-20, 20), st.integers(1, 8))
def test_of_equal_similarities_only_the_odds_count(log_normalizer: float, negatives: int) -> None:
    """With embeddings of 0, P = 1 / Z for all: log(1 + n Z) + K log(1 + 1 / (n Z)), n = K / N, in both directions."""
    value = contrastive_representation(
        torch.zeros(2, 3, dtype=torch.float64),
        torch.zeros(2, 3, dtype=torch.float64),
        student_memory=directions(9, 3),
        teacher_memory=directions(9, 3),
        indices=torch.arange(2 * (1 + negatives)).view(2, -1) % 9,
        normalizers=torch.full((2,), log_normalizer, dtype=torch.float64),
    )
    ratio = negatives / 9 * math.exp(log_normalizer)
    assert float(value) == pytest.approx(2 * (math.log1p(ratio) + negatives * math.log1p(1 / ratio)), rel=1e-9)


def test_several_steps_by_loops(seen: Seen) -> None:
    """Normalizers from the first batch, losses against what was remembered before, moving averages afterwards."""
    loss = seen.loss
    student_memory, teacher_memory = loss.student_memory.tolist(), loss.teacher_memory.tolist()
    student_map, teacher_map = loss.student_embedding, loss.teacher_embedding
    normalizers: list[float] = []
    labels = [-1] * SAMPLES
    for step, samples in enumerate([[0, 1, 5], [2, 3, 7], [1, 0, 11], [5, 6, 2]]):
        value = seen(samples, step=step)
        indices = seen.indices.tolist()
        own = [unit(row) for row in student_map(waves(SAMPLES, 4, phase=0.1 * step)[samples]).tolist()]
        other = [unit(row) for row in teacher_map(waves(SAMPLES, 5, phase=1.0)[samples]).tolist()]
        if not normalizers:
            normalizers = [
                normalizer_by_loops(own, teacher_memory, 0.5),
                normalizer_by_loops(other, student_memory, 0.5),
            ]
        expected = contrast_by_loops(own, teacher_memory, indices, normalizer=normalizers[0], temperature=0.5)
        expected += contrast_by_loops(other, student_memory, indices, normalizer=normalizers[1], temperature=0.5)
        assert value.item() == pytest.approx(expected, rel=1e-10)
        for memory, rows in ((student_memory, own), (teacher_memory, other)):
            for sample, row in zip(samples, rows, strict=True):
                memory[sample] = unit([(a + b) / 2 for a, b in zip(memory[sample], row, strict=True)])
        for sample in samples:
            labels[sample] = sample % CLASSES
        assert [row[0] for row in indices] == samples
        assert loss.labels.tolist() == labels
        assert loss.normalizers.tolist() == pytest.approx([math.log(z) for z in normalizers], rel=1e-10)
        assert array(loss.student_memory) == pytest.approx(np.array(student_memory), rel=1e-10)
        assert array(loss.teacher_memory) == pytest.approx(np.array(teacher_memory), rel=1e-10)


def test_normalizers_hardly_depend_on_the_seed() -> None:
    """The memory and the maps do; estimated from a batch's negatives among 64 samples, Z scatters by a third."""
    found = []
    for seed in range(6):
        loss = CRDLoss(num_samples=4000, negatives=8, seed=seed, student_layers="s", teacher_layers="t")
        own, other = output(s=waves(64, 128, dtype=torch.float32)), output(t=waves(64, 256, dtype=torch.float32))
        torch.manual_seed(seed)
        loss.prepare(Told(own), Told(other))
        target = MixedTarget.unmixed(torch.arange(64) % 10)
        loss(own, other, target, StepContext(0, 1, 0, torch.arange(64)))
        found.append(loss.normalizers.exp())
    values = torch.stack(found)
    torch.testing.assert_close(values, values.mean(0).expand_as(values), rtol=0.06, atol=0)


@pytest.mark.parametrize("unused", [1, 30])
def test_samples_that_are_held_out_change_no_gradient(unused: int) -> None:
    """Of rows of the memory that no sample uses, only the mean at the first batch is read; here they are copies."""
    values = []
    for samples in (SAMPLES, SAMPLES * (1 + unused)):
        loss = CRDLoss(num_samples=samples, negatives=6, width=3, student_layers="s", teacher_layers="t")
        fit(loss, output(s=waves(1, 4)), output(t=waves(1, 5)))
        for memory in (loss.student_memory, loss.teacher_memory):
            memory.copy_(directions(SAMPLES, 3).repeat(samples // SAMPLES, 1))
        show(loss, [0, 1, 5])
        values.append(show(loss, [2, 1, 0], step=1))
    torch.testing.assert_close(values[0], values[1])


def test_the_memory_starts_as_long_as_unit_vectors_on_average() -> None:
    loss = CRDLoss(num_samples=2000, width=128)
    for memory in (loss.student_memory, loss.teacher_memory):
        assert float(memory.square().sum(1).mean()) == pytest.approx(1, rel=0.01)
        assert float(memory.abs().max()) <= math.sqrt(3 / 128)
    assert not torch.equal(loss.student_memory, loss.teacher_memory)


def test_negatives_are_shown_samples_of_other_classes(seen: Seen) -> None:
    shown: set[int] = set()
    for step, samples in enumerate([[0, 1, 5], [2, 3, 7], [1, 0, 11], [5, 6, 2]]):
        seen(samples, step=step)
        shown |= set(samples)
        for sample, *negatives in seen.indices.tolist():
            assert len(negatives) == 6
            assert set(negatives) <= {other for other in shown if other % CLASSES != sample % CLASSES}


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(np.int64, 10, elements=st.integers(0, 3)), st.permutations(range(10)), st.integers(2, 10))
def test_negatives_of_whatever_labels_and_samples(labels: np.ndarray, order: list[int], size: int) -> None:
    classes, samples = torch.from_numpy(labels), order[:size]
    with pytest.MonkeyPatch.context() as patch:
        seen = Seen(patch, num_samples=10)
        seen(samples, labels=classes)
    if len(set(labels[samples])) > 1:
        for sample, *negatives in seen.indices.tolist():
            assert set(negatives) <= {other for other in samples if labels[other] != labels[sample]}


def test_negatives_are_drawn_uniformly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20,000 draws from 8 samples, chi-square of 7 degrees of freedom is above 24.3 once in a thousand."""
    seen = Seen(monkeypatch, negatives=20_000)
    seen(list(range(SAMPLES)))
    for sample, *negatives in seen.indices.tolist():
        counts = np.bincount(negatives, minlength=SAMPLES)
        possible = [other for other in range(SAMPLES) if other % CLASSES != sample % CLASSES]
        assert ((counts[possible] - 2500) ** 2 / 2500).sum() < 30
        assert counts.sum() == counts[possible].sum()


def test_negatives_are_a_function_of_seed_epoch_and_step(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {}
    for place in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]:
        for state in (3, 4):
            seed, epoch, step = place
            seen = Seen(monkeypatch, seed=seed, negatives=50)
            torch.manual_seed(state)
            seen(list(range(SAMPLES)), epoch=epoch, step=step)
            drawn[place, state] = seen.indices
        assert torch.equal(drawn[place, 3], drawn[place, 4])
    of_places = [drawn[place] for place in drawn if place[1] == 3]
    assert all(not torch.equal(a, b) for i, a in enumerate(of_places) for b in of_places[:i])


def test_drawing_leaves_the_global_state_alone(seen: Seen) -> None:
    state = torch.get_rng_state()
    seen([0, 1, 2])
    assert torch.equal(torch.get_rng_state(), state)


def test_a_restored_loss_continues_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    loss, other = (Seen(monkeypatch, seed=seed).loss for seed in (0, 1))
    for step in range(3):
        show(loss, [step, step + 1, step + 5], step=step)
    other.seed = 0
    other.load_state_dict(loss.state_dict())
    for step in range(3, 6):
        assert torch.equal(show(loss, [step, 0, 11], step=step), show(other, [step, 0, 11], step=step))
    torch.testing.assert_close(other.state_dict(), loss.state_dict(), rtol=0, atol=0)


def test_what_is_remembered_later_leaves_the_gradient_exact(seen: Seen) -> None:
    """The normalizers are constants; they are estimated before."""
    show(seen.loss, [0, 1, 2, 3])
    target, context = MixedTarget.unmixed(LABELS[:3]), StepContext(0, 10, 1, torch.arange(3))

    def value(features: Tensor, weight: Tensor, other_weight: Tensor) -> Tensor:
        loss = copy.deepcopy(seen.loss)
        own, other = output(s=features), output(t=waves(3, 5, phase=1.0))
        maps = {"student_embedding.1.weight": weight, "teacher_embedding.1.weight": other_weight}
        return torch.func.functional_call(loss, maps, (own, other, target, context))["crd"]

    weights = [getattr(seen.loss, f"{name}_embedding")[1].weight.detach().clone() for name in ("student", "teacher")]
    assert torch.autograd.gradcheck(value, [t.requires_grad_() for t in (waves(3, 4), *weights)])


def test_steps_may_be_accumulated(seen: Seen) -> None:
    weight = seen.loss.student_embedding[1].weight
    show(seen.loss, [0, 1, 2])
    one = copy.deepcopy(seen.loss)
    (show(seen.loss, [3, 4, 5], step=1) + show(seen.loss, [3, 4, 6], step=2)).backward()
    show(one, [3, 4, 5], step=1).backward()
    show(one, [3, 4, 6], step=2).backward()
    torch.testing.assert_close(weight.grad, one.student_embedding[1].weight.grad)


def test_no_gradient_reaches_the_teacher(seen: Seen) -> None:
    student, teacher = waves(3, 4).requires_grad_(), waves(3, 5).requires_grad_()
    context = StepContext(0, 10, 0, torch.arange(3))
    seen.loss(output(s=student), output(t=teacher), MixedTarget.unmixed(LABELS[:3]), context)["crd"].backward()
    assert student.grad is not None
    assert teacher.grad is None


@pytest.mark.parametrize(("student", "teacher"), [("resnet8", "resnet14"), ("ShuffleV1", "resnet20")])
def test_both_maps_are_learned(student: str, teacher: str) -> None:
    loss = CRDLoss(num_samples=5, negatives=3, width=8)
    own, other = prepared(loss, student, teacher)
    assert loss.features.student == loss.features.teacher == ("avgpool",)
    context = StepContext(0, 1, 0, torch.tensor([4, 2]))
    terms = loss(own, other, MixedTarget.unmixed(torch.tensor([0, 1])), context)
    assert set(terms) == {"crd"}
    terms["crd"].backward()
    assert all_learn(loss)


def test_features_are_read_in_half_precision() -> None:
    values = []
    for enabled in (False, True):
        loss = CRDLoss(num_samples=5, negatives=3, width=8)
        own, other = prepared(loss, "resnet8", "resnet14")
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            context = StepContext(0, 1, 0, torch.tensor([4, 2]))
            values.append(loss(own, other, MixedTarget.unmixed(torch.tensor([0, 1])), context)["crd"])
    assert values[1].dtype == torch.float32
    torch.testing.assert_close(values[1], values[0], rtol=0.05, atol=0)


@pytest.fixture(scope="module")
def networks() -> dict[str, Any]:
    return {
        "student": create_model("resnet8", num_classes=10),
        "teacher": FrozenTeacher(create_model("resnet8", num_classes=10)),
    }


def test_mixing_is_refused(networks: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="mixup: CRDLoss is not defined on virtual samples; train with mixup=none"):
        DistillationModule(loss=CRDLoss(num_samples=5), mixup=Mixup(), **networks)
    DistillationModule(loss=CRDLoss(num_samples=5), mixup=Mixup(probability=0), **networks)


def test_mistakes_are_named(seen: Seen) -> None:
    own, other = output(s=waves(2, 4)), output(t=waves(2, 5))
    labels, context = torch.tensor([0, 1]), StepContext(0, 1, 0, torch.tensor([0, 1]))
    with pytest.raises(InputError, match="CRDLoss: not defined on mixed samples; train with mixup=none"):
        seen.loss(own, other, MixedTarget(labels[:, None].expand(2, 2), torch.full((2, 2), 0.5)), context)
    for without in (None, StepContext(0, 1, 0)):
        with pytest.raises(InputError, match=r"needs each sample's index; the loader must yield \(images, labels, ind"):
            seen.loss(own, other, MixedTarget.unmixed(labels), without)
    far = StepContext(0, 1, 0, torch.tensor([0, SAMPLES]))
    with pytest.raises(InputError, match="CRDLoss: num_samples=12, but a sample has index 12"):
        seen.loss(own, other, MixedTarget.unmixed(labels), far)
    with pytest.raises(ValueError, match="CRDLoss needs a teacher"):
        seen.loss(own, None, MixedTarget.unmixed(labels), context)
    with pytest.raises(RuntimeError, match="CRDLoss is not fitted to the networks yet"):
        CRDLoss(num_samples=5)(own, other, MixedTarget.unmixed(labels), context)


def test_an_index_too_large_is_named_in_every_batch(seen: Seen) -> None:
    seen([0, 1, 2])
    target, context = MixedTarget.unmixed(torch.tensor([0])), StepContext(0, 1, 1, torch.tensor([SAMPLES]))
    with pytest.raises(InputError, match="CRDLoss: num_samples=12, but a sample has index 12"):
        seen.loss(output(s=waves(1, 4)), output(t=waves(1, 5)), target, context)


def test_one_layer_is_read() -> None:
    with pytest.raises(InputError, match="CRDLoss: reads one layer of each network, not 2"):
        CRDLoss(num_samples=5, student_layers=["a", "b"], teacher_layers=["a", "b"])
