"""The compact segmentation network: its size, its maps, and how it is trained, traced and exported."""

from pathlib import Path

import pytest
import torch
from torch import nn

from stkd_lightning.losses import FitNetLoss
from stkd_lightning.models import DilatedResNet, FeatureTap, Layers, NetworkInspector
from stkd_lightning.models.cost import flops, parameters
from stkd_lightning.models.memory_format import channels_last
from stkd_lightning.models.segmentation.dilated_resnet import HalfSize
from stkd_lightning.tasks.types import MixedTarget
from stkd_lightning.utilities.errors import InputError

IMAGES = torch.randn(2, 3, 61, 47, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("width", "count", "work"), [(8, 203_539, 313_645_696), (24, 1_820_963, 2_791_903_104)])
def test_size_and_work(width: int, count: int, work: int) -> None:
    network = DilatedResNet(11, width)
    assert parameters(network) == count
    assert flops(network, (180, 240)) == work


@pytest.mark.parametrize("size", [(64, 64), (61, 47), (180, 240), (8, 8), (3, 1)])
def test_scores_have_the_size_of_the_image(size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert DilatedResNet(5, 4).eval()(torch.randn(1, 3, *size)).shape == (1, 5, *size)


def test_stages_have_strides_4_8_8() -> None:
    network = DilatedResNet(5, 4)
    probe = NetworkInspector(network, IMAGES[:1])
    assert probe.layers == Layers(("layer1", "layer2", "layer3"), "layer3", "head", "classifier")
    paths = ("stem", *probe.layers.stages, "context", "head", "classifier")
    assert [name for name, _ in network.named_children()] == list(paths)
    assert [tuple(shape[1:]) for shape in probe.shapes(paths)] == [
        (4, 31, 24), (8, 16, 12), (16, 8, 6), (32, 8, 6), (16, 1, 1), (16, 8, 6), (5, 8, 6),
    ]  # fmt: skip


@pytest.mark.parametrize("size", [(6, 8), (7, 5), (1, 1)])
def test_half_size_is_average_pooling_in_ceil_mode(size: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *size)
    expected = nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False)(images)
    torch.testing.assert_close(HalfSize()(images), expected)


def test_no_strided_pointwise_convolution() -> None:
    pointwise = [m for m in DilatedResNet(5, 4).modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert len(pointwise) == 5
    assert all(module.stride == (1, 1) for module in pointwise)


def test_one_image_trains() -> None:
    network = channels_last(DilatedResNet(5, 4)).train()
    network(IMAGES[:1]).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_every_pixel_sees_the_context() -> None:
    """Without the pooled branch a corner does not depend on the far corner of a large image."""
    network = DilatedResNet(2, 2).eval()
    images = torch.randn(1, 3, 256, 256, requires_grad=True)
    network(images)[..., 0, 0].sum().backward()
    assert images.grad[..., -8:, -8:].abs().sum() > 0


def test_loss_over_features_reads_both_widths() -> None:
    student, teacher = DilatedResNet(5, 4).eval(), DilatedResNet(5, 6).eval()
    loss = FitNetLoss()
    loss.prepare(NetworkInspector(student, IMAGES[:1]), NetworkInspector(teacher, IMAGES[:1]))
    assert loss.features.student == loss.features.teacher == ("layer2",)
    outputs = [FeatureTap(network, ["layer2"])(IMAGES) for network in (student, teacher)]
    (term,) = loss(*outputs, MixedTarget.unmixed(torch.zeros(2, dtype=torch.int64))).values()
    term.backward()
    assert student.layer1[0].conv1.weight.grad.abs().sum() > 0


def test_weights_are_loaded(tmp_path: Path) -> None:
    trained = DilatedResNet(5, 4)
    torch.save({"model": trained.state_dict()}, tmp_path / "trained.pth")
    network = DilatedResNet(5, 4, weights=tmp_path / "trained.pth").eval()
    with torch.no_grad():
        assert torch.equal(network(IMAGES), trained.eval()(IMAGES))
    with pytest.raises(InputError, match="does not fit DilatedResNet"):
        DilatedResNet(5, 8, weights=tmp_path / "trained.pth")


@pytest.mark.parametrize("width", [0, 1.5])
def test_width_below_one_or_broken_is_refused(width: float) -> None:
    with pytest.raises(InputError, match=f"width={width}: must be a whole number of at least 1"):
        DilatedResNet(5, width)


def test_symbolic_trace_gives_the_same_scores() -> None:
    network = DilatedResNet(5, 4).eval()
    traced = torch.fx.symbolic_trace(network)
    for images in (IMAGES, IMAGES[..., :40]):
        with torch.no_grad():
            assert torch.equal(traced(images), network(images))


def test_export_has_dynamic_sides() -> None:
    network = DilatedResNet(5, 4).eval()
    height, width = (torch.export.Dim(name, min=16, max=1024) for name in ("height", "width"))
    program = torch.export.export(network, (IMAGES,), dynamic_shapes=({2: height, 3: width},))
    images = torch.randn(2, 3, 80, 33)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images), network(images))
