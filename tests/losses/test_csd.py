import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stkd_lightning.losses import CSDLoss, Features, category_similarity, pooled_category_similarity
from stkd_lightning.tasks.types import MixedTarget
from stkd_lightning.utilities.errors import InputError
from tests.losses.maps import array, bilinear
from tests.losses.properties import dot, output, unit, waves
from tests.losses.segmenters import Segmenter, dense_outputs, dense_target, segmenters

TARGET = MixedTarget.unmixed(torch.arange(2))


def softmax(values: list[float]) -> list[float]:
    largest = max(values)
    powers = [math.exp(value - largest) for value in values]
    return [power / math.fsum(powers) for power in powers]


def distance(own: list[list[float]], other: list[list[float]]) -> float:
    """Mean squared difference of two matrices of inner products between rows."""
    total = 0.0
    for i in range(len(own)):
        for j in range(len(own)):
            total += (dot(other[i], other[j]) - dot(own[i], own[j])) ** 2
    return total / len(own) ** 2


def csd_by_loops(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> float:
    height, width = student.shape[2:]

    def rows(scores: Tensor) -> list[list[list[float]]]:
        samples = []
        for sample in bilinear(array(scores), height, width):
            pixels = [
                softmax([float(sample[c, y, x]) / temperature for c in range(len(sample))])
                for y in range(height)
                for x in range(width)
            ]
            samples.append([unit([pixel[c] for pixel in pixels]) for c in range(len(sample))])
        return samples

    pairs = zip(rows(student), rows(teacher), strict=True)
    return sum(distance(own, other) for own, other in pairs) / len(student)


def cirkd_by_loops(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> float:
    def rows(sample: list[list[list[float]]]) -> list[list[float]]:
        rows = []
        for channel in sample:
            height, width = len(channel), len(channel[0])
            fields = []
            for y in range(0, height, 2):
                for x in range(0, width, 2):
                    field = [channel[v][u] for v in (y, y + 1) for u in (x, x + 1) if v < height and u < width]
                    fields.append(math.fsum(field) / len(field))
            rows.append(softmax([value / temperature for value in fields]))
        return rows

    pairs = zip(student.tolist(), teacher.tolist(), strict=True)
    return sum(distance(rows(own), rows(other)) for own, other in pairs) / len(student)


def test_category_similarity_of_a_hand_computed_case() -> None:
    """The student's probabilities are 1/2, its rows alike: M is 1 everywhere.

    The teacher's rows are (3, 3, 1, 1) / 4 and (1, 1, 3, 3) / 4, of length sqrt(20) / 4 and product 12 / 16: cosine
    3/5. Two entries of four differ by 2/5: 2 * 4/25 / 4 = 2/25.
    """
    teacher = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    teacher[0, 0, 0], teacher[0, 1, 1] = math.log(3), math.log(3)
    value = category_similarity(torch.zeros(1, 2, 2, 2, dtype=torch.float64), teacher)
    assert float(value) == pytest.approx(2 / 25, rel=1e-12)


def test_pooled_similarity_of_a_hand_computed_case() -> None:
    """Two fields, of 2x2 and 2x1 pixels. The student's rows are (1, 1) / 2: M is 1/2 everywhere.

    Pooled, the teacher's first class has scores 4 log 3 and 0, at T = 4 the row (3, 1) / 4 of square 10/16; its second
    class has the row (1, 1) / 2. One entry of four differs, by 1/8: 1/64 / 4 = 1/256.
    """
    teacher = torch.zeros(1, 2, 2, 3, dtype=torch.float64)
    teacher[0, 0, 0, :2] = 8 * math.log(3)
    value = pooled_category_similarity(torch.zeros(1, 2, 2, 3, dtype=torch.float64), teacher)
    assert float(value) == pytest.approx(1 / 256, rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(12)))
def test_order_of_pixels_does_not_matter(order: list[int]) -> None:
    student, teacher = 3 * waves(2, 3, 3, 4), 3 * waves(2, 3, 3, 4, phase=1.0)
    moved = (scores.flatten(2)[..., order].view_as(scores) for scores in (student, teacher))
    torch.testing.assert_close(
        category_similarity(*moved), category_similarity(student, teacher), rtol=1e-10, atol=1e-14
    )


def test_order_of_pixels_matters_to_the_pooled_variant() -> None:
    student, teacher = 3 * waves(2, 3, 3, 4), 3 * waves(2, 3, 3, 4, phase=1.0)
    moved = (scores.transpose(2, 3).reshape(2, 3, 3, 4) for scores in (student, teacher))
    assert float(pooled_category_similarity(*moved)) != pytest.approx(
        float(pooled_category_similarity(student, teacher)), rel=1e-3
    )


@settings(max_examples=20, deadline=None)
@given(st.floats(-50, 50), st.sampled_from([0.5, 1.0, 4.0]))
def test_scores_shifted_at_a_pixel_change_nothing(shift: float, temperature: float) -> None:
    student, teacher = waves(2, 3, 3, 4), waves(2, 3, 3, 4, phase=1.0)
    shifts = shift * waves(2, 1, 3, 4, phase=2.0)
    value = category_similarity(student + shifts, teacher, temperature=temperature)
    expected = category_similarity(student, teacher, temperature=temperature)
    torch.testing.assert_close(value, expected, rtol=1e-8, atol=1e-12)
    assert 0 <= float(value) <= 1


def test_term_is_that_of_the_scores() -> None:
    student, teacher = 2 * waves(2, 3, 4, 4), 2 * waves(2, 3, 4, 4, phase=1.0)
    layers = {"student_layers": "s", "teacher_layers": "t"}
    terms = CSDLoss(temperature=2.0, **layers)(output(s=student), output(t=teacher), TARGET)
    assert list(terms) == ["csd"]
    assert float(terms["csd"]) == pytest.approx(csd_by_loops(student, teacher, 2.0), rel=1e-10)
    terms = CSDLoss(reduction="cirkd", temperature=4.0, **layers)(output(s=student), output(t=teacher), TARGET)
    assert float(terms["csd"]) == pytest.approx(cirkd_by_loops(student, teacher), rel=1e-10)


def test_scores_of_networks_of_other_stride_are_compared() -> None:
    loss = CSDLoss()
    terms = loss(*dense_outputs(loss, *segmenters(teacher=Segmenter(3, (2, 1, 1)))), dense_target())
    assert loss.features == Features(("classifier",), ("classifier",))
    assert 0 < float(terms["csd"].detach()) < 1
    assert not list(loss.parameters())


def test_settings_and_scores_that_do_not_fit_are_named() -> None:
    with pytest.raises(InputError, match="loss.reduction 'mean': unknown; all: cirkd, paper"):
        CSDLoss(reduction="mean")
    words = (
        "CSDLoss: compares scores of the same classes, but 'classifier' of the student gives 3 and 'classifier' of the "
        "teacher 5"
    )
    with pytest.raises(InputError, match=words):
        CSDLoss().prepare(*segmenters(teacher=Segmenter(3, classes=5)))
    words = "reduction=cirkd compares scores of one size, not 4x4 of the student and 8x8 of the teacher"
    with pytest.raises(InputError, match=words):
        CSDLoss(reduction="cirkd").prepare(*segmenters(teacher=Segmenter(3, (2, 1, 1))))
