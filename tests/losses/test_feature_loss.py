from itertools import chain

import pytest
import torch
from torch import nn

from stkd_lightning.losses import (
    ATLoss,
    CCKDLoss,
    Features,
    NSTLoss,
    PKTLoss,
    RKDLoss,
    SPLoss,
    correlation_congruence,
    probabilistic_transfer,
    relational,
    similarity_preserving,
)
from stkd_lightning.losses.feature_loss import FeatureLoss, Shapes, check_maps, global_batch, same_resolution
from stkd_lightning.models import NetworkInspector
from stkd_lightning.tasks.types import MixedTarget, ModelOutput
from stkd_lightning.utilities.errors import InputError
from tests.losses.properties import Function, output, probes, waves

TARGET = MixedTarget.unmixed(torch.arange(4))
STAGES = ("layer1", "layer2", "layer3")


class Built(FeatureLoss):
    """A method that notes for which shapes it was built."""

    shapes: tuple[Shapes, Shapes] | None = None

    def build(self, student: Shapes, teacher: Shapes) -> None:
        self.shapes = student, teacher


@pytest.mark.parametrize(
    ("loss", "student", "teacher"),
    [
        (SPLoss, ("layer3",), ("blocks.6",)),
        (CCKDLoss, ("avgpool",), ("avgpool",)),
        (RKDLoss, ("avgpool",), ("avgpool",)),
        (PKTLoss, ("avgpool",), ("avgpool",)),
        (ATLoss, STAGES, ("blocks.2", "blocks.4", "blocks.6")),
        (NSTLoss, STAGES, ("blocks.2", "blocks.4", "blocks.6")),
    ],
)
def test_usual_layers(loss: type[FeatureLoss], student: tuple[str, ...], teacher: tuple[str, ...]) -> None:
    """Of three stages beside four, the deepest three are compared."""
    own, other = probes("resnet8", "MobileNetV2")
    fitted = loss()
    assert fitted.reads_features
    fitted.prepare(own, other)
    assert fitted.features == Features(student, teacher)


def test_of_more_stages_in_the_student_the_deepest_are_compared() -> None:
    loss = ATLoss()
    loss.prepare(*probes("MobileNetV2", "resnet8"))
    assert loss.features == Features(("blocks.2", "blocks.4", "blocks.6"), STAGES)


def test_named_layers_are_known_before_the_loss_is_prepared() -> None:
    loss = Built(student_layers="layer1", teacher_layers=["layer2.0"])
    assert loss.features == Features(("layer1",), ("layer2.0",))
    loss.prepare(*probes())
    assert loss.features == Features(("layer1",), ("layer2.0",))


def test_unnamed_network_is_read_at_its_deepest_layer() -> None:
    loss = ATLoss(teacher_layers=("layer1", "layer2"))
    loss.prepare(*probes())
    assert loss.features == Features(("layer2", "layer3"), ("layer1", "layer2"))


def test_prepared_again_for_other_networks_it_reads_those() -> None:
    loss = SPLoss()
    loss.prepare(*probes("resnet8", "resnet14"))
    loss.prepare(*probes("MobileNetV2", "wrn_16_1"))
    assert loss.features == Features(("blocks.6",), ("block3",))


def test_is_built_for_the_shapes_of_its_layers() -> None:
    loss = Built(student_layers=("layer2", "fc"), teacher_layers=("layer3", "avgpool"))
    loss.prepare(*probes("resnet8", "resnet8x4"))
    assert loss.shapes == (((1, 32, 4, 4), (1, 10)), ((1, 256, 2, 2), (1, 256, 1, 1)))


def test_pairs_are_those_of_the_layers_in_their_order() -> None:
    loss = Built(student_layers=("b", "a"), teacher_layers=("x", "y"))
    a, b, x, y = (waves(2, width) for width in (1, 2, 3, 4))
    pairs = chain.from_iterable(loss.pairs(output(a=a, b=b), output(x=x, y=y)))
    assert [features.shape[1] for features in pairs] == [2, 3, 1, 4]


def test_layers_of_different_number_are_refused() -> None:
    words = r"ATLoss: compares layer with layer, but reads 2 of the student \(a, b\) and 1 of the teacher \(c\)"
    with pytest.raises(InputError, match=words):
        ATLoss(student_layers=("a", "b"), teacher_layers="c")
    with pytest.raises(InputError, match="reads 4 of the student .* and 3 of the teacher"):
        ATLoss(student_layers=(*STAGES, "conv1")).prepare(*probes())


def test_an_unknown_layer_gets_the_nearest() -> None:
    with pytest.raises(InputError, match=r"feature of ResNet 'layer4': unknown; did you mean layer\d"):
        SPLoss(teacher_layers="layer4").prepare(*probes())


@pytest.mark.parametrize("loss", [ATLoss, NSTLoss])
def test_what_is_no_map_is_refused_where_maps_are_read(loss: type[FeatureLoss]) -> None:
    words = (
        rf"{loss.__name__}: reads feature maps \(B, C, H, W\), but 'fc' of ResNet gives \(B, 10\); "
        "its maps: layer1, layer2, layer3"
    )
    with pytest.raises(InputError, match=words):
        loss(student_layers="layer1", teacher_layers="fc").prepare(*probes())


def test_vectors_are_refused_in_a_network_without_stages() -> None:
    flat = NetworkInspector(nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), torch.zeros(1, 3, 8, 8))
    with pytest.raises(InputError, match=r"but '1' of Sequential gives \(B, 10\)"):
        ATLoss(student_layers="1", teacher_layers="1").prepare(flat, flat)


def test_layers_have_to_be_known_before_features_are_compared() -> None:
    words = r"SPLoss is not fitted to the networks yet; call prepare\(\), as DistillationModule does"
    with pytest.raises(RuntimeError, match=words):
        SPLoss()(output(a=waves(4, 2)), output(a=waves(4, 2)), TARGET)


@pytest.mark.parametrize("loss", [SPLoss, CCKDLoss, RKDLoss, PKTLoss, ATLoss, NSTLoss])
def test_a_missing_teacher_is_named(loss: type[FeatureLoss]) -> None:
    with pytest.raises(ValueError, match=f"{loss.__name__} needs a teacher"):
        loss(student_layers="a", teacher_layers="a")(output(a=waves(4, 2, 2, 2)), None, TARGET)


@pytest.mark.parametrize("loss", [SPLoss, CCKDLoss, RKDLoss, PKTLoss])
def test_losses_over_pairs_of_samples_read_one_layer(loss: type[FeatureLoss]) -> None:
    with pytest.raises(InputError, match=f"{loss.__name__}: reads one layer of each network, not 2"):
        loss(student_layers=("a", "b"), teacher_layers=("a", "b"))


@pytest.mark.parametrize(
    "function", [relational, similarity_preserving, correlation_congruence, probabilistic_transfer]
)
def test_a_zero_sample_is_not_thrown_far(function: Function) -> None:
    """It has no direction that could be changed a little."""
    student = waves(4, 6)
    student[0] = 0
    student.requires_grad_()
    function(student, waves(4, 5, phase=1.0)).backward()
    assert student.grad is not None
    assert student.grad.abs().max() < 100


def test_the_global_batch_is_in_single_precision_or_better() -> None:
    dtypes = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
    assert [global_batch(waves(2, 3, dtype=dtype)).dtype for dtype in dtypes] == [*[torch.float32] * 3, torch.float64]


def test_the_larger_map_is_pooled_on_each_side() -> None:
    student, teacher = same_resolution(waves(2, 3, 4, 6), waves(2, 5, 2, 6))
    torch.testing.assert_close(student, waves(2, 3, 4, 6).unflatten(2, (2, 2)).mean(3))
    assert torch.equal(teacher, waves(2, 5, 2, 6))


def test_maps_of_one_batch_are_needed() -> None:
    words = r"student and teacher need feature maps \(B, C, H, W\) of one batch: \(2, 3, 4\), \(2, 3, 4, 4\)"
    with pytest.raises(ValueError, match=words):
        check_maps(waves(2, 3, 4), waves(2, 3, 4, 4))


def test_a_loss_that_is_told_its_layers_needs_no_preparation() -> None:
    features = {"layer3": waves(4, 2, 2, 2)}
    student, teacher = ModelOutput(waves(4, 10), features), ModelOutput(waves(4, 10), features)
    terms = SPLoss(student_layers="layer3", teacher_layers="layer3")(student, teacher, TARGET)
    assert float(terms["sp"]) == pytest.approx(0, abs=1e-15)
