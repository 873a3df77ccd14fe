import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stkd_lightning.losses import CWDFeatureLoss, CWDLoss, Features, channel_wise
from stkd_lightning.tasks.types import MixedTarget
from stkd_lightning.utilities.errors import InputError
from tests.losses.maps import all_learn, array, bilinear, convolved, fit
from tests.losses.properties import output, waves
from tests.losses.segmenters import Segmenter, dense_outputs, dense_target, segmenters
from tests.losses.test_csd import softmax

TARGET = MixedTarget.unmixed(torch.arange(2))


def cwd_by_loops(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> float:
    own, other = array(student), bilinear(array(teacher), *student.shape[2:])
    batch, channels = own.shape[:2]
    total = 0.0
    for b in range(batch):
        for c in range(channels):
            q = softmax([v / temperature for v in own[b, c].ravel().tolist()])
            p = softmax([v / temperature for v in other[b, c].ravel().tolist()])
            total += math.fsum(left * math.log(left / right) for left, right in zip(p, q, strict=True))
    return temperature**2 * total / (batch * channels)


def test_hand_computed_case() -> None:
    """At T = 4 the student's positions have 1/4 each, those of the teacher's first class 3/8, 3/8, 1/8, 1/8.

    KL = 3/4 log(3/2) + 1/4 log(1/2), in the second class 0; 16 times the mean of both.
    """
    teacher = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    teacher[0, 0, 0] = 4 * math.log(3)
    value = channel_wise(torch.zeros(1, 2, 2, 2, dtype=torch.float64), teacher)
    assert float(value) == pytest.approx(8 * (0.75 * math.log(1.5) - 0.25 * math.log(2)), rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(12)), st.floats(-100, 100))
def test_order_of_pixels_and_shifts_of_channels_do_not_matter(order: list[int], shift: float) -> None:
    student, teacher = 3 * waves(2, 3, 3, 4), 3 * waves(2, 3, 3, 4, phase=1.0)
    own, other = (scores.flatten(2)[..., order].view_as(scores) for scores in (student, teacher))
    shifts = shift * waves(2, 3, 1, 1)
    torch.testing.assert_close(channel_wise(own + shifts, other), channel_wise(student, teacher), rtol=1e-9, atol=1e-12)


def test_terms_are_those_of_scores_and_feature() -> None:
    student, teacher = 2 * waves(2, 3, 4, 4), 2 * waves(2, 3, 2, 2, phase=1.0)
    own, other = output(s=student), output(t=teacher)
    for loss, name in ((CWDLoss, "cwd"), (CWDFeatureLoss, "cwd_feature")):
        part = loss(temperature=2.0, student_layers="s", teacher_layers="t")
        fit(part, own, other)
        terms = part(own, other, TARGET)
        assert list(terms) == [name]
        assert float(terms[name]) == pytest.approx(cwd_by_loops(student, teacher, 2.0), rel=1e-10)
        assert not list(part.parameters())


def test_a_convolution_gives_the_student_the_teachers_channels() -> None:
    student, teacher = waves(2, 2, 3, 3), waves(2, 4, 3, 3, phase=1.0)
    loss = CWDFeatureLoss(student_layers="s", teacher_layers="t")
    fit(loss, output(s=student), output(t=teacher))
    assert {name: p.shape for name, p in loss.named_parameters()} == {"projection.weight": (4, 2, 1, 1)}
    projected = torch.from_numpy(convolved(array(student), array(loss.projection.weight)))
    value = loss(output(s=student), output(t=teacher), TARGET)["cwd_feature"]
    assert value.item() == pytest.approx(cwd_by_loops(projected, teacher), rel=1e-10)
    value.backward()
    assert all_learn(loss)


@pytest.mark.parametrize(("loss", "layer"), [(CWDLoss, "classifier"), (CWDFeatureLoss, "head")])
def test_networks_of_other_width_and_stride_are_compared(loss: type[CWDLoss], layer: str) -> None:
    part = loss()
    student, teacher = segmenters(teacher=Segmenter(3, (2, 1, 1)))
    (value,) = part(*dense_outputs(part, student, teacher), dense_target()).values()
    assert part.features == Features((layer,), (layer,))
    value.backward()
    assert all(p.grad is not None and p.grad.any() for p in student.network.stages.parameters())


def test_scores_of_different_classes_are_refused() -> None:
    words = "CWDLoss: compares scores of the same classes, but 'classifier' of the student gives 3 and"
    with pytest.raises(InputError, match=words):
        CWDLoss().prepare(*segmenters(teacher=Segmenter(3, classes=5)))
    with pytest.raises(RuntimeError, match="CWDFeatureLoss is not fitted to the networks yet"):
        CWDFeatureLoss(student_layers="s", teacher_layers="s")(output(s=waves(2, 3, 2, 2)), None, TARGET)
