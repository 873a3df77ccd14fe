import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stkd_lightning.losses import Features, SKDLoss, pair_wise
from stkd_lightning.tasks.types import MixedTarget
from stkd_lightning.utilities.errors import InputError
from tests.losses.properties import dot, orthogonal, output, unit, waves
from tests.losses.segmenters import Segmenter, dense_outputs, dense_target, segmenters

TARGET = MixedTarget.unmixed(torch.arange(2))


def skd_by_loops(student: Tensor, teacher: Tensor, pool: int = 2) -> float:
    def nodes(sample: list[list[list[float]]]) -> list[list[float]]:
        height, width = len(sample[0]), len(sample[0][0])
        return [
            unit([max(max(row[x : x + pool]) for row in channel[y : y + pool]) for channel in sample])
            for y in range(0, height, pool)
            for x in range(0, width, pool)
        ]

    total = 0.0
    for own, other in zip(map(nodes, student.tolist()), map(nodes, teacher.tolist()), strict=True):
        count = len(own)
        for i in range(count):
            for j in range(count):
                total += (dot(other[i], other[j]) - dot(own[i], own[j])) ** 2 / count**2
    return total / len(student)


def test_hand_computed_case() -> None:
    """Two nodes of 2x2 pixels and two channels: the student's point one way, the teacher's are at a right angle.

    Two of four cosines differ by 1: 1/2. Of single pixels, 16 of the 8 x 8 pairs of the left pixels with the right
    ones, each counted twice, differ: 1/2 again.
    """
    student = torch.ones(1, 2, 2, 4, dtype=torch.float64)
    teacher = torch.zeros(1, 2, 2, 4, dtype=torch.float64)
    teacher[0, 0, :, :2], teacher[0, 1, :, 2:] = 3, 5
    assert float(pair_wise(student, teacher)) == pytest.approx(1 / 2, rel=1e-12)
    assert float(pair_wise(student, teacher, pool=1)) == pytest.approx(1 / 2, rel=1e-12)


def test_one_node_is_similar_to_itself() -> None:
    assert float(pair_wise(waves(2, 3, 2, 2), waves(2, 4, 2, 2, phase=1.0))) == pytest.approx(0, abs=1e-15)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(12)), st.floats(0.01, 100))
def test_order_of_nodes_scale_and_direction_do_not_matter(order: list[int], scale: float) -> None:
    student, teacher = waves(2, 3, 3, 4), waves(2, 4, 3, 4, phase=1.0)
    own, other = (features.flatten(2)[..., order].view_as(features) for features in (student, teacher))
    turned = scale * torch.einsum("dc,bchw->bdhw", orthogonal(3), own)
    torch.testing.assert_close(
        pair_wise(turned, other, pool=1), pair_wise(student, teacher, pool=1), rtol=1e-9, atol=1e-12
    )


def test_term_is_that_of_the_last_feature() -> None:
    student, teacher = waves(2, 3, 3, 5), waves(2, 4, 3, 5, phase=1.0)
    loss = SKDLoss(pool=3, student_layers="s", teacher_layers="t")
    terms = loss(output(s=student), output(t=teacher), TARGET)
    assert list(terms) == ["skd"]
    assert float(terms["skd"]) == pytest.approx(skd_by_loops(student, teacher, 3), rel=1e-10)


def test_networks_of_other_width_are_compared() -> None:
    loss = SKDLoss()
    student, teacher = segmenters()
    loss(*dense_outputs(loss, student, teacher), dense_target())["skd"].backward()
    assert loss.features == Features(("head",), ("head",))
    assert all(p.grad is not None and p.grad.any() for p in student.network.stages.parameters())
    assert not list(loss.parameters())


def test_settings_and_resolutions_that_do_not_fit_are_named() -> None:
    with pytest.raises(InputError, match="loss.pool=0: must be a whole number of at least 1"):
        SKDLoss(pool=0)
    words = (
        "SKDLoss: compares maps of one resolution, but 'head' of the student gives 4x4 and 'head' of the teacher 8x8; "
        "loss=cwd compares maps of different resolutions"
    )
    with pytest.raises(InputError, match=words):
        SKDLoss().prepare(*segmenters(teacher=Segmenter(3, (2, 1, 1))))
