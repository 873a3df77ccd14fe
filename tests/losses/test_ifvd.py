import math

import pytest
import torch
from torch import Tensor

from stkd_lightning import Mixup
from stkd_lightning.distillation.mixing import check_mixable
from stkd_lightning.losses import Features, IFVDLoss, intra_class_variation
from stkd_lightning.tasks.types import MixedTarget
from stkd_lightning.utilities.errors import InputError
from tests.losses.properties import check_definition, check_gradient, dot, orthogonal, output, unit, waves
from tests.losses.segmenters import CLASSES, Segmenter, dense_outputs, dense_target, segmenters

LABELS = dense_target(6, 8).labels[:, 0]


def ifvd(student: Tensor, teacher: Tensor) -> Tensor:
    return intra_class_variation(student, teacher, LABELS, num_classes=CLASSES)


def ifvd_by_loops(student: Tensor, teacher: Tensor) -> float:
    height, width = student.shape[2:]
    places = [(y, x) for y in range(height) for x in range(width)]

    def label(sample: int, y: int, x: int) -> int:
        return int(LABELS[sample, y * LABELS.shape[1] // height, x * LABELS.shape[2] // width])

    def cosines(features: Tensor, sample: int) -> list[float]:
        pixels = {place: features[sample, :, place[0], place[1]].tolist() for place in places}
        values = []
        for place in places:
            kind = label(sample, *place)
            alike = [pixels[p] for p in places if label(sample, *p) == kind] if kind != 255 else [pixels[place]]
            centre = [math.fsum(values) / len(alike) for values in zip(*alike, strict=True)]
            values.append(dot(unit(pixels[place]), unit(centre)))
        return values

    total = 0.0
    for b in range(len(student)):
        own, other = cosines(student, b), cosines(teacher, b)
        total += math.fsum((p - q) ** 2 for p, q in zip(other, own, strict=True))
    return total / (len(student) * len(places))


def test_hand_computed_case() -> None:
    """Two pixels of class 0, one of class 1, one without class.

    The student's pixels of class 0 are (1, 0) and (0, 1), at 45 degrees to their centre; the teacher's are alike. A
    pixel alone in its class, or without one, is its own centre. Two of four pixels differ by 1 - 1 / sqrt 2.
    """
    labels = torch.tensor([[[0, 0], [1, 255]]])
    student = torch.tensor([[[1.0, 0.0], [2.0, 1.0]], [[0.0, 1.0], [1.0, 1.0]]], dtype=torch.float64)[None]
    teacher = torch.tensor([[[1.0, 2.0], [0.0, 3.0]], [[1.0, 2.0], [1.0, 0.0]]], dtype=torch.float64)[None]
    value = intra_class_variation(student, teacher, labels, num_classes=2)
    assert float(value) == pytest.approx((1 - 1 / math.sqrt(2)) ** 2 / 2, rel=1e-12)


@pytest.mark.parametrize("size", [(6, 8), (3, 4), (2, 3)])
def test_equals_loops_with_labels_of_any_size(size: tuple[int, int]) -> None:
    check_definition(ifvd, ifvd_by_loops, waves(2, 3, *size), waves(2, 5, *size, phase=1.0))


def test_gradient_passes_through_the_centres() -> None:
    check_gradient(ifvd, waves(2, 2, 3, 4), waves(2, 3, 3, 4, phase=1.0))


def test_zero_at_the_teacher_turned_and_scaled() -> None:
    teacher = waves(2, 3, 3, 4)
    student = 7 * torch.einsum("dc,bchw->bdhw", orthogonal(3), teacher)
    assert float(ifvd(student, teacher)) == pytest.approx(0, abs=1e-15)


def test_term_is_that_of_the_last_feature() -> None:
    loss = IFVDLoss()
    student, teacher = segmenters()
    outputs = dense_outputs(loss, student, teacher)
    terms = loss(*outputs, dense_target())
    assert (loss.features, list(terms)) == (Features(("head",), ("head",)), ["ifvd"])
    maps = outputs[0].features["head"], outputs[1].features["head"]
    expected = intra_class_variation(*maps, dense_target().labels[:, 0], num_classes=CLASSES)
    assert torch.equal(terms["ifvd"], expected)
    terms["ifvd"].backward()
    assert all(p.grad is not None and p.grad.any() for p in student.network.stages.parameters())


def test_what_has_no_label_for_each_pixel_is_refused() -> None:
    loss = IFVDLoss(student_layers="a", teacher_layers="a")
    maps = output(a=waves(2, 3, 4, 4))
    with pytest.raises(InputError, match="IFVDLoss: needs a label for each pixel; this task has one for each sample"):
        loss(maps, maps, MixedTarget.unmixed(torch.arange(2)))
    mixed = MixedTarget(torch.zeros(2, 2, 4, 4, dtype=torch.int64), torch.full((2, 2), 0.5))
    with pytest.raises(InputError, match="IFVDLoss: not defined on mixed samples; train with mixup=none"):
        loss(maps, maps, mixed)
    with pytest.raises(InputError, match="mixup: IFVDLoss is not defined on virtual samples"):
        check_mixable(loss, Mixup())


def test_maps_of_different_resolutions_are_refused() -> None:
    with pytest.raises(InputError, match="IFVDLoss: compares maps of one resolution, but 'head' of the student gives"):
        IFVDLoss().prepare(*segmenters(teacher=Segmenter(3, (2, 1, 1))))
    with pytest.raises(ValueError, match=r"maps need one resolution: \(2, 3, 4, 4\), \(2, 3, 2, 4\)"):
        ifvd(waves(2, 3, 4, 4), waves(2, 3, 2, 4))
