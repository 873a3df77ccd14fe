"""The losses of dense prediction on segmentation networks: in one trace, in half precision, on networks that ship."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch._dynamo.utils import counters

from stkd_lightning import Batch, DistillationModule
from stkd_lightning.losses import (
    AuxiliaryCrossEntropyLoss,
    CSDLoss,
    CWDFeatureLoss,
    CWDLoss,
    IFVDLoss,
    Loss,
    PixelKDLoss,
    PSDLoss,
    SKDLoss,
)
from stkd_lightning.losses.dense_loss import ScoresLoss
from stkd_lightning.models import DilatedResNet
from stkd_lightning.tasks import Segmentation
from stkd_lightning.teacher import FrozenTeacher
from stkd_lightning.utilities.errors import InputError
from tests.losses.properties import probes, waves
from tests.losses.segmenters import CLASSES, Segmenter, dense_outputs, dense_target, segmenters

LOSSES: dict[str, Callable[[], Loss]] = {
    "psd": PSDLoss,
    "psd, cirkd": partial(PSDLoss, reduction="cirkd"),
    "csd": CSDLoss,
    "csd, cirkd": partial(CSDLoss, reduction="cirkd"),
    "cwd": CWDLoss,
    "cwd_feature": CWDFeatureLoss,
    "skd": SKDLoss,
    "ifvd": IFVDLoss,
    "pixel_kd": PixelKDLoss,
    "auxiliary": partial(AuxiliaryCrossEntropyLoss, align_corners=True),
}
each_loss = pytest.mark.parametrize("name", LOSSES)


@each_loss
def test_dense_loss_makes_one_trace(name: str) -> None:
    loss = LOSSES[name]()
    student, teacher = segmenters(Segmenter(2, auxiliary=True))
    outputs = dense_outputs(loss, student, teacher)
    assert loss.traceable
    torch._dynamo.reset()
    counters.clear()
    traced = torch.compile(lambda *arguments: loss(*arguments), backend="aot_eager", fullgraph=True)
    (expected,), (value,) = loss(*outputs, dense_target()).values(), traced(*outputs, dense_target()).values()
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)
    assert counters["stats"]["unique_graphs"] == 1


@each_loss
def test_dense_loss_reads_outputs_in_half_precision(name: str) -> None:
    """Half precision is raised before sums, products and softmaxes; its rounding costs a twentieth at most."""
    loss = LOSSES[name]()
    student, teacher = segmenters(Segmenter(2, auxiliary=True))
    (exact,) = loss(*dense_outputs(loss, student, teacher), dense_target()).values()
    with torch.autocast("cpu", torch.bfloat16):
        (value,) = loss(*dense_outputs(loss, student, teacher), dense_target()).values()
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, exact, rtol=0.05, atol=1e-5)


@each_loss
def test_compact_networks_learn_from_dense_losses(name: str) -> None:
    """Sides of an odd number of positions, and gradients in all that the loss reads."""
    torch.manual_seed(0)
    if name == "auxiliary":
        loss: Loss = AuxiliaryCrossEntropyLoss(layer="classifier")  # the network has no auxiliary head
    else:
        loss = LOSSES[name]()
    images, labels = waves(2, 3, 45, 60).float(), dense_target(45, 60).labels[:, 0]
    student, teacher = DilatedResNet(CLASSES, width=4), FrozenTeacher(DilatedResNet(CLASSES, width=6))
    module = DistillationModule(student, loss, teacher, task=Segmentation(("a", "b", "c")), example=images)
    (value,) = module.terms(Batch(images, labels)).values()
    value.backward()
    assert value.isfinite()
    for layer in (student.layer1, student.layer3):
        assert all(p.grad.isfinite().all() and p.grad.any() for p in layer.parameters())


@pytest.mark.parametrize("loss", [CSDLoss, CWDLoss, PixelKDLoss])
def test_classifiers_have_no_scores_of_positions(loss: type[ScoresLoss]) -> None:
    words = rf"{loss.__name__}: reads feature maps \(B, C, H, W\), but 'fc' of ResNet gives \(B, 10\)"
    with pytest.raises(InputError, match=words):
        loss().prepare(*probes())
