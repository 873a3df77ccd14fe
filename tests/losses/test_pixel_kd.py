import math

import pytest
import torch

from stkd_lightning.losses import Features, KDLoss, PixelKDLoss, pixel_wise
from stkd_lightning.tasks.types import MixedTarget, ModelOutput
from tests.losses.maps import array, bilinear
from tests.losses.properties import output, waves
from tests.losses.segmenters import Segmenter, dense_outputs, dense_target, segmenters
from tests.losses.test_kd import kl_by_loops

TARGET = MixedTarget.unmixed(torch.arange(2))


def pixel_kd_by_loops(student: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0) -> float:
    resized = torch.from_numpy(bilinear(array(teacher), *student.shape[2:]))
    batch, _, height, width = student.shape
    pixels = [(b, y, x) for b in range(batch) for y in range(height) for x in range(width)]
    own, other = (torch.stack([s[b, :, y, x].double() for b, y, x in pixels]) for s in (student.detach(), resized))
    return kl_by_loops(own, other, temperature)


def test_hand_computed_case() -> None:
    """At one of four pixels the student has (3, 1) / 4 and the teacher (1, 1) / 2: log(4/3) / 2; elsewhere 0."""
    student = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    student[0, 0, 0, 1] = math.log(3)
    value = pixel_wise(student, torch.zeros(1, 2, 2, 2, dtype=torch.float64))
    assert float(value) == pytest.approx(math.log(4 / 3) / 8, rel=1e-12)


def test_term_counts_ignored_pixels() -> None:
    loss = PixelKDLoss(temperature=2.0)
    student, teacher = segmenters(teacher=Segmenter(3, (2, 1, 1)))
    outputs = dense_outputs(loss, student, teacher)
    terms = loss(*outputs, dense_target())
    assert (loss.features, list(terms)) == (Features(("classifier",), ("classifier",)), ["pixel_kd"])
    scores = outputs[0].features["classifier"], outputs[1].features["classifier"]
    assert float(terms["pixel_kd"].detach()) == pytest.approx(pixel_kd_by_loops(*scores, 2.0), rel=1e-5)
    terms["pixel_kd"].backward()
    assert all(p.grad is not None and p.grad.any() for p in student.network.stages.parameters())


def test_kd_by_rows_counts_no_ignored_pixels() -> None:
    student, teacher, target = waves(2, 3, 4, 4), waves(2, 3, 4, 4, phase=1.0), dense_target(4, 4)
    terms = KDLoss(alpha=0.5, temperature=2.0)(ModelOutput(student), ModelOutput(teacher), target)
    kept = (target.labels[:, 0] != 255).flatten()
    own, other = (scores.movedim(1, 3).reshape(-1, 3)[kept] for scores in (student, teacher))
    assert float(terms["kd"]) == pytest.approx(0.5 * kl_by_loops(own, other, 2.0), rel=1e-10)
    whole = PixelKDLoss(temperature=2.0, student_layers="s", teacher_layers="s")
    value = whole(output(s=student), output(s=teacher), target)["pixel_kd"]
    assert float(value) == pytest.approx(pixel_kd_by_loops(student, teacher, 2.0), rel=1e-10)
    assert float(value) != pytest.approx(2 * float(terms["kd"]), rel=1e-3)
