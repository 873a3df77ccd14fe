"""All ways to mix against their definitions, sample by sample."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stkd_lightning import (
    Batch,
    CutMix,
    DistillationModule,
    Mixup,
    MixupOrCutMix,
    ModelOutput,
    StepContext,
    StrongView,
    UncertainMixup,
)
from stkd_lightning.data import DigitsDataModule
from stkd_lightning.distillation.mixing import Mixing, check_inputs, check_mixable
from stkd_lightning.losses import CATKDLoss, CrossEntropyLoss, KDLoss, STKDLoss
from stkd_lightning.models import create_model
from stkd_lightning.tasks import Segmentation, Tagging
from stkd_lightning.tasks.types import VirtualBatch
from stkd_lightning.teacher import FrozenTeacher
from stkd_lightning.utilities.errors import InputError, UndefinedError
from stkd_lightning.utilities.random import generator

HERE = StepContext(epoch=1, max_epochs=5, step=3)
SIZE = 12


def images(size: int = SIZE) -> Tensor:
    return torch.randn(size, 3, 6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def random(mixup: Mixing) -> np.random.Generator:
    return generator(mixup.seed, "mixup", HERE.epoch, HERE.step)


def assert_rows(virtual: VirtualBatch, first: int, x: Tensor) -> None:
    """Each row from the first on is the combination that its labels and weights name."""
    for i in range(first, len(virtual.inputs)):
        mix = zip(virtual.target.weights[i], virtual.target.labels[i], strict=True)
        torch.testing.assert_close(virtual.inputs[i], sum((w * x[j] for w, j in mix), torch.zeros_like(x[0])))


@pytest.mark.parametrize("options", [{}, {"k": 3, "per_sample": True}, {"fraction": 0.5}])
def test_keep_puts_clean_rows_first(options: dict[str, Any]) -> None:
    x, y = images(), torch.arange(SIZE)
    alone, beside = Mixup(1.0, **options)((x, y), HERE), Mixup(1.0, keep=True, **options)((x, y), HERE)
    assert torch.equal(beside.inputs, torch.cat([x, alone.inputs]))
    assert torch.equal(beside.target.labels[SIZE:], alone.target.labels)
    assert torch.equal(beside.target.weights[SIZE:], alone.target.weights)
    assert torch.equal(beside.target.dense(SIZE)[:SIZE], torch.eye(SIZE))
    assert beside.target.clean is not None
    assert alone.target.clean is not None
    assert beside.target.clean[:SIZE].all()
    assert torch.equal(beside.target.clean[SIZE:], alone.target.clean)
    assert int(alone.target.clean.sum()) == (SIZE // 2 if "fraction" in options else 0)
    assert_rows(beside, 0, x)


def test_a_sample_of_weight_one_is_not_clean() -> None:
    virtual = Mixup(None, weights=[1.0, 0.0])((images(), torch.arange(SIZE)), HERE)
    assert virtual.target.clean is not None
    assert not virtual.target.clean.any()


def test_dominant_weights_fall() -> None:
    x, y = images(), torch.arange(SIZE)
    drawn = Mixup(1.0, k=3, per_sample=True)((x, y), HERE).target
    dominant = Mixup(1.0, k=3, per_sample=True, dominant=True)((x, y), HERE)
    assert torch.equal(dominant.target.labels, drawn.labels)
    for before, after in zip(drawn.weights.tolist(), dominant.target.weights.tolist(), strict=True):
        assert after == sorted(before, reverse=True)
    assert_rows(dominant, 0, x)


def test_constant_weights_are_those_of_all_samples() -> None:
    x, y = images(), torch.arange(SIZE)
    virtual = Mixup(None, k=3, weights=[0.5, 0.3, 0.2])((x, y), HERE)
    torch.testing.assert_close(virtual.target.weights, torch.tensor([[0.5, 0.3, 0.2]] * SIZE, dtype=torch.float64))
    assert_rows(virtual, 0, x)


@pytest.mark.parametrize("make", [Mixup, CutMix])
@pytest.mark.parametrize("classes", [1, 2, 4, SIZE])
def test_partners_of_another_class(make: Any, classes: int) -> None:
    x, y = images(), torch.arange(SIZE) // 2 % classes
    mixup = make(1.0, partner="other_class", per_sample=True)
    drawn = mixup.draw(SIZE, random(mixup), (6, 9))
    virtual = mixup((x, y), HERE)
    names = make(1.0, partner="any", per_sample=True)((x, torch.arange(SIZE)), HERE)  # labels name the partners
    assert virtual.target.clean is not None
    for i in range(SIZE):
        cycle = [(int(drawn.partners[i, 1]) + step) % SIZE for step in range(SIZE)]
        others = [j for j in cycle if y[j] != y[i]]
        assert bool(virtual.target.clean[i]) == (not others)
        assert int(virtual.target.labels[i, 0]) == int(y[i])
        if not others:
            assert torch.equal(virtual.inputs[i], x[i])
            assert virtual.target.weights[i].tolist() == [1, 0]
            continue
        assert int(virtual.target.labels[i, 1]) == int(y[others[0]])
        torch.testing.assert_close(virtual.target.weights[i], torch.from_numpy(drawn.weights[i]))
        if others[0] == cycle[0]:
            assert torch.equal(virtual.inputs[i], names.inputs[i])


def test_other_tags_are_another_set() -> None:
    tags = torch.tensor([[0, 1], [0, 1], [1, 1], [0, 1]])
    task = Tagging(("a", "b"))
    target = Mixup(1.0, partner="other_class")((torch.randn(4, 30), tags), HERE, task.target).target
    assert target.labels[:, 1].tolist() == [[1, 1], [1, 1], [0, 1], [1, 1]]
    with pytest.raises(InputError, match="needs a label for each sample, not for each pixel"):
        Mixup(partner="other_class")((images(2), torch.zeros(2, 6, 9, dtype=torch.int64)), HERE)


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_cutmix_by_loops(per_sample: bool, fraction: float) -> None:
    x, y = images(), torch.arange(SIZE)
    mixup = CutMix(per_sample=per_sample, fraction=fraction, seed=5)
    virtual = mixup((x, y), HERE)
    draws = generator(5, "mixup", HERE.epoch, HERE.step)
    partners, rows = draws.permutation(SIZE), SIZE if per_sample else 1
    share = 1 - draws.beta(1, 1, rows)
    top, left = draws.integers(6, size=rows), draws.integers(9, size=rows)
    mixed = draws.permutation(SIZE) < round(fraction * SIZE)
    assert virtual.target.clean is not None
    for i in range(SIZE):
        of = i if per_sample else 0
        height, width = math.floor(math.sqrt(share[of]) * 6), math.floor(math.sqrt(share[of]) * 9)
        first_row, first_column = top[of] - height // 2, left[of] - width // 2
        expected, count = x[i].clone(), 0
        for row in range(6):
            for column in range(9):
                inside = first_row <= row < first_row + height and first_column <= column < first_column + width
                if inside and mixed[i]:
                    expected[:, row, column] = x[partners[i], :, row, column]
                    count += 1
        assert torch.equal(virtual.inputs[i], expected)
        assert virtual.target.labels[i].tolist() == [i, partners[i]]
        assert virtual.target.weights[i].tolist() == pytest.approx([1 - count / 54, count / 54])
        assert bool(virtual.target.clean[i]) == (not mixed[i])


def test_cutmix_moves_labels_with_their_pixels() -> None:
    x = images()
    masks = (x[:, 0] > 0).long()
    task = Segmentation(("low", "high"))
    target = CutMix(per_sample=True)((x, masks), HERE, task.target).target
    virtual = CutMix(per_sample=True)((x, masks), HERE)
    own = target.rows(torch.zeros(SIZE, 2, 6, 9)).target.dense(2).view(SIZE, 6, 9, 2)
    assert torch.equal(own.argmax(-1), (virtual.inputs[:, 0] > 0).long())
    assert torch.equal(own.amax(-1), torch.ones(SIZE, 6, 9))


def test_cutmix_of_clips_is_a_band_in_time() -> None:
    clips = torch.randn(SIZE, 50, generator=torch.Generator().manual_seed(1))
    padded = torch.stack([clips, (torch.arange(50) < 30).float().expand(SIZE, 50).clone()], dim=1)
    padded[0, 1] = 1
    virtual = CutMix(seed=1)((clips, torch.arange(SIZE)), HERE)
    beside = CutMix(seed=1)((padded, torch.arange(SIZE)), HERE)
    assert torch.equal(beside.inputs[:, 0], virtual.inputs)
    for i in range(SIZE):
        partner, weight = int(virtual.target.labels[i, 1]), float(virtual.target.weights[i, 1])
        changed = (virtual.inputs[i] != clips[i]).nonzero().flatten()
        assert 0 < len(changed) == round(50 * weight)
        assert torch.equal(changed, torch.arange(int(changed[0]), int(changed[-1]) + 1))
        assert torch.equal(virtual.inputs[i, changed], clips[partner, changed])
        longest = max(padded[i, 1].sum(), padded[partner, 1].sum())
        assert (beside.inputs[i, 1] > 0).sum() == longest


def test_each_batch_has_one_of_two_ways() -> None:
    mixup = MixupOrCutMix(1.0, seed=2)
    x, y = images(), torch.arange(SIZE)
    cut = []
    for step in range(40):
        place = StepContext(epoch=0, max_epochs=1, step=step)
        virtual, draws = mixup((x, y), place), generator(2, "mixup", 0, step)
        cut.append(draws.random() < 0.5)
        if cut[-1]:
            expected = CutMix().draw(SIZE, draws, (6, 9))
            unlike = virtual.inputs != x
            partners = x[torch.from_numpy(expected.partners[:, 1])]
            assert torch.equal(virtual.inputs[unlike], partners[unlike])
            others = [i for i, partner in enumerate(expected.partners[:, 1]) if partner != i]
            assert int(unlike[others].sum()) == len(others) * 3 * round(54 * float(expected.weights[0, 1]))
        else:
            expected = Mixup(1.0).draw(SIZE, draws)
            assert_rows(virtual, 0, x)
        torch.testing.assert_close(virtual.target.weights, torch.from_numpy(expected.weights))
    assert 10 < sum(cut) < 30


@pytest.mark.parametrize("kept", [0.75, 1.0])
def test_uncertain_mixup_by_loops(kept: float) -> None:
    x, y = images(), torch.arange(SIZE)
    entropies = torch.tensor([0.1, 0.9, 0.5, 0.5, 0.3, 1.2, 0.0, 0.2, 0.9, 0.8, 0.4, 0.6], dtype=torch.float64)
    virtual = UncertainMixup(kept=kept, seed=4)((x, y), HERE, entropy=lambda inputs: entropies)
    draws = generator(4, "mixup", HERE.epoch, HERE.step)
    partners, share = draws.permutation(SIZE), draws.uniform()
    order = sorted(range(SIZE), key=lambda i: (-float(entropies[i]), i))
    assert len(virtual.inputs) == round(kept * SIZE)
    for rank, i in enumerate(order[: len(virtual.inputs)]):
        weight = share / (1 + math.exp(-10 * (rank / SIZE - 63 / 128)))
        assert virtual.target.labels[rank].tolist() == [i, partners[i]]
        torch.testing.assert_close(
            virtual.target.weights[rank], torch.tensor([1 - weight, weight], dtype=torch.float64), rtol=1e-9, atol=1e-12
        )
    assert_rows(virtual, 0, x)


def networks(**options: Any) -> DistillationModule:
    torch.manual_seed(0)
    student, teacher = create_model("resnet8", num_classes=5), FrozenTeacher(create_model("resnet8", num_classes=5))
    return DistillationModule(student, teacher=teacher, **{"loss": KDLoss(), **options}).train()


@pytest.mark.parametrize("score", ["student", "teacher"])
def test_the_entropy_is_that_of_the_named_network(score: Any) -> None:
    module = networks(mixup=UncertainMixup(score=score))
    before = module.student.bn1.running_mean.clone()
    batch = Batch(torch.rand(8, 3, 32, 32), torch.arange(8) % 5)
    entropy = module._entropy(batch.inputs)
    logits = module.teacher(batch.inputs).logits if module.teacher else torch.zeros(0)
    if score == "teacher":
        torch.testing.assert_close(entropy, torch.distributions.Categorical(logits=logits).entropy())
    moved = not torch.equal(before, module.student.bn1.running_mean)
    assert moved == (score == "student")
    virtual = module.virtual(batch, HERE)
    assert virtual.inputs.shape == (6, 3, 32, 32)
    assert not virtual.inputs.requires_grad


@pytest.mark.parametrize("forwards", [1, 2])
def test_keep_equals_explicit_forwards(forwards: int) -> None:
    """One pass over all rows, or one over the clean and one over the virtual rows, with BatchNorm's statistics."""
    module = networks(
        mixup=Mixup(1.0, keep=True, forwards=forwards), loss=STKDLoss(hard_label="clean", mixed_weight=0.5)
    )
    batch = Batch(torch.rand(6, 3, 32, 32), torch.arange(6) % 5)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    terms = module.terms(batch, HERE)
    moved = {name: value.clone() for name, value in module.state_dict().items()}
    module.load_state_dict(state)
    virtual = module.virtual(batch, HERE)
    logits = torch.cat([module.student(part) for part in virtual.inputs.chunk(forwards)])
    assert module.teacher is not None
    expected = module.loss(ModelOutput(logits), module.teacher(virtual.inputs), virtual.target)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-5, atol=1e-6)
    for name, value in module.state_dict().items():
        torch.testing.assert_close(moved[name], value, rtol=1e-5, atol=1e-6)


def test_two_passes_keep_what_has_no_rows() -> None:
    """CAT-KD reads the weights of the classifiers, which are those of both passes and of all batches."""
    batch, options = Batch(torch.rand(6, 3, 32, 32), torch.arange(6) % 5), {"loss": CATKDLoss()}
    one, two = (networks(mixup=Mixup(1.0, keep=True, forwards=n), **options).eval() for n in (1, 2))
    torch.testing.assert_close(one.terms(batch, HERE), two.terms(batch, HERE))


def test_look_ahead_keeps_what_has_no_rows() -> None:
    data = DigitsDataModule(batch_size=16)
    torch.manual_seed(0)
    teacher = FrozenTeacher(create_model("resnet8", num_classes=10))
    values = []
    for look_ahead in (1, 3):
        torch.manual_seed(1)
        student = create_model("resnet8", num_classes=10)
        example = torch.zeros(1, 3, 8, 8)
        module = DistillationModule(
            student, CATKDLoss(), teacher, Mixup(), look_ahead=look_ahead, example=example
        ).eval()
        batches = zip(range(4), data.train_dataloader(), strict=False)
        values.append([module.terms(b, StepContext(0, 1, i, b.indices))["cat_kd"].detach() for i, b in batches])
    torch.testing.assert_close(*values)


def test_a_reordered_batch_has_no_indices() -> None:
    """A loss that remembers samples would take others for them."""
    seen = []

    class Watched(KDLoss):
        def forward(self, student: Any, teacher: Any, target: Any, context: StepContext | None = None) -> Any:
            assert context is not None
            seen.append(context.indices)
            return super().forward(student, teacher, target, context)

    batch, indices = Batch(torch.rand(6, 3, 32, 32), torch.arange(6) % 5), torch.arange(6) + 10
    for mixup in (UncertainMixup(kept=1.0), Mixup(keep=True), Mixup()):
        networks(loss=Watched(), mixup=mixup).terms(batch, replace(HERE, indices=indices))
    assert seen[0] is None
    assert [found.tolist() for found in seen[1:]] == [[*range(10, 16)] * 2, [*range(10, 16)]]


def test_ways_to_mix_that_do_not_fit_the_data() -> None:
    check_inputs(Mixup(), dense=True, clips=False)
    for options in ({"dense": True, "clips": False}, {"dense": False, "clips": True}):
        with pytest.raises(UndefinedError, match="mixup=strong_view: needs images with a label each"):
            check_inputs(StrongView(), **options)
    with pytest.raises(UndefinedError, match="mixup.partner=other_class: needs a label for each sample"):
        check_inputs(CutMix(partner="other_class"), dense=True, clips=False)


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (Mixup, {"alpha": None}, "mixup.alpha=null: needs a number above 0, or mixup.weights"),
        (Mixup, {"weights": [0.5, 0.5]}, "mixup.weights: excludes mixup.alpha=0.2; set mixup.alpha=null"),
        (
            Mixup,
            {"alpha": None, "weights": [0.5, 0.6]},
            r"mixup.weights=\[0.5, 0.6\]: needs mixup.k=2 weights with sum 1",
        ),
        (Mixup, {"alpha": None, "weights": 0.5}, "mixup.weights=0.5: must be a list of 2 weights"),
        (MixupOrCutMix, {"alpha": None}, "mixup.alpha=None: must be"),
        (Mixup, {"alpha": None, "weights": [1.0]}, r"mixup.weights=\[1.0\]: needs mixup.k=2 weights"),
        (Mixup, {"partner": "other"}, "mixup.partner 'other': unknown; did you mean other_class"),
        (Mixup, {"forwards": 2}, "mixup.forwards=2: needs clean rows beside the virtual ones; set mixup.keep=true"),
        (Mixup, {"forwards": 3, "keep": True}, "mixup.forwards=3"),
        (Mixup, {"keep": True, "probability": 0}, "mixup.keep=true: no sample is mixed"),
        (CutMix, {"alpha": 0}, "mixup.alpha=0: must be above 0"),
        (MixupOrCutMix, {"cutmix_alpha": 0}, "mixup.cutmix_alpha=0: must be above 0"),
        (UncertainMixup, {"kept": 0}, "mixup.kept=0"),
        (UncertainMixup, {"score": "students"}, "mixup.score 'students': unknown; did you mean student"),
    ],
)
def test_errors_of_options(make: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make(**options)


@pytest.mark.parametrize(("fraction", "clean"), [(0.99, False), (0.5, True), (1.0, False)])
def test_a_fraction_may_be_rounded_to_the_whole_batch(fraction: float, clean: bool) -> None:
    loss, mixup = STKDLoss(hard_label="clean"), Mixup(fraction=fraction)
    assert mixup.leaves_clean(16) == clean
    if clean:
        check_mixable(loss, mixup, 16)
    else:
        with pytest.raises(UndefinedError, match="no sample is left clean"):
            check_mixable(loss, mixup, 16)


def test_settings_that_exclude_each_other() -> None:
    with pytest.raises(InputError, match="loss.hard_label=clean: no sample is left clean; mixup=beta mixup.keep"):
        networks(loss=STKDLoss(hard_label="clean"), mixup=Mixup())
    with pytest.raises(InputError, match="loss.mixed_weight=0: no sample is left clean"):
        networks(loss=STKDLoss(mixed_weight=0), mixup=Mixup())
    for options in ({"keep": True}, {"fraction": 0.5}, {"probability": 0.5}):
        networks(loss=STKDLoss(hard_label="clean"), mixup=Mixup(**options))
    with pytest.raises(InputError, match="mixup.score=student: teacher.look_ahead=2 needs samples that do not depend"):
        networks(mixup=UncertainMixup(), look_ahead=2)
    with pytest.raises(InputError, match="mixup.score=student: teacher.replay=true needs"):
        networks(mixup=UncertainMixup(), replay="replay")
    with pytest.raises(InputError, match="mixup.score=teacher: this loss has no teacher"):
        DistillationModule(
            create_model("resnet8", num_classes=5), CrossEntropyLoss(), None, UncertainMixup(score="teacher")
        )
    with pytest.raises(ValueError, match="needs the entropies of a network"):
        UncertainMixup()((images(), torch.arange(SIZE)), HERE)
