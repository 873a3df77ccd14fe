import math

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor

from stkd_lightning import DistillationModule
from stkd_lightning.commands.config.compose import composed, composing
from stkd_lightning.losses import AuxiliaryCrossEntropyLoss, CrossEntropyLoss, WeightedSum
from stkd_lightning.tasks.types import Batch, MixedTarget
from stkd_lightning.utilities.errors import InputError
from tests.losses.maps import array, bilinear
from tests.losses.properties import output, waves
from tests.losses.segmenters import Segmenter, dense_target


def cross_entropy_by_loops(scores: Tensor, labels: Tensor, *, align_corners: bool) -> float:
    height, width = labels.shape[1:]
    resized = bilinear(array(scores), height, width, align_corners=align_corners)
    values = []
    for b in range(len(labels)):
        for y in range(height):
            for x in range(width):
                pixel, label = resized[b, :, y, x].tolist(), int(labels[b, y, x])
                if label != 255:
                    values.append(math.log(math.fsum(math.exp(z) for z in pixel)) - pixel[label])
    return math.fsum(values) / len(values)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", [(2, 3), (4, 6), (9, 5)])
def test_equals_loops_without_ignored_pixels(align_corners: bool, size: tuple[int, int]) -> None:
    scores, target = 2 * waves(2, 3, *size), dense_target(4, 6)
    loss = AuxiliaryCrossEntropyLoss(layer="aux", align_corners=align_corners)
    terms = loss(output(aux=scores), None, target)
    assert list(terms) == ["auxiliary"]
    expected = cross_entropy_by_loops(scores, target.labels[:, 0], align_corners=align_corners)
    assert float(terms["auxiliary"]) == pytest.approx(expected, rel=1e-10)


def test_hand_computed_case() -> None:
    """Of four pixels one has probability 3/4 of its class, one 1/4, two have no class: (log 4/3 + log 4) / 2."""
    scores = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    scores[0, 0, 0] = math.log(3)
    target = MixedTarget(torch.tensor([[[[0, 1], [255, 255]]]]), torch.ones(1, 1), ignored=255)
    (value,) = AuxiliaryCrossEntropyLoss(layer="aux")(output(aux=scores), None, target).values()
    assert float(value) == pytest.approx((math.log(4 / 3) + math.log(4)) / 2, rel=1e-12)


def test_it_trains_the_auxiliary_head_without_a_teacher() -> None:
    loss = WeightedSum({"ce": CrossEntropyLoss(), "auxiliary": AuxiliaryCrossEntropyLoss()}, {"auxiliary": 0.4})
    assert not loss.needs_teacher
    student = Segmenter(2, auxiliary=True)
    module = DistillationModule(student, loss)
    terms = module.terms(Batch(waves(2, 3, 16, 16).float(), dense_target(ignored=None).labels[:, 0]))
    assert list(terms) == ["cross_entropy", "auxiliary"]
    terms["auxiliary"].backward()
    assert student.aux_classifier.weight.grad.any()
    assert student.classifier.weight.grad is None


def test_settings_and_heads_that_do_not_exist_are_named() -> None:
    with pytest.raises(InputError, match="loss.align_corners=1: must be true or false"):
        AuxiliaryCrossEntropyLoss(align_corners=1)
    with pytest.raises(InputError, match="feature of Segmenter 'aux_classifier': unknown; did you mean classifier"):
        DistillationModule(Segmenter(2), AuxiliaryCrossEntropyLoss())


def test_it_joins_any_sum_from_the_command_line() -> None:
    options = ["loss=dsd_cirkd", "+term@loss.losses.auxiliary=auxiliary", "+loss.weights.auxiliary=0.4",
               "loss.losses.auxiliary.align_corners=true"]  # fmt: skip
    with composing():
        loss = instantiate(composed("train", options).loss)
    assert loss.weights == {"ce": 1.0, "psd": 1000.0, "csd": 10.0, "auxiliary": 0.4}
    assert loss.features.student == ("aux_classifier",)
    assert loss.losses["auxiliary"].align_corners
