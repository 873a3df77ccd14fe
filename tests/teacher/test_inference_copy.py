"""A frozen network's copy says what the network says, to a stated tolerance, and follows no later change."""

import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stkd_lightning.models import InputSpec, create_model, for_data, list_models
from stkd_lightning.models.fold_batch_norm import fold_batch_norm
from stkd_lightning.models.memory_format import channels_last
from stkd_lightning.teacher import FrozenTeacher, inference_copy
from stkd_lightning.teacher.inference_copy import InferenceCopy


def trained(network: nn.Module) -> nn.Module:
    """Give BatchNorm statistics and weights that folding could get wrong."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return network.eval()


def batch_norms(network: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", list_models())
@torch.no_grad()
def test_folding_changes_nothing_in_float64(name: str, images: Tensor) -> None:
    network = trained(create_model(name, num_classes=7)).double()
    expected = network(images.double())
    before = batch_norms(network)
    fold_batch_norm(network, images.double())
    torch.testing.assert_close(network(images.double()), expected, rtol=1e-9, atol=1e-9)
    assert batch_norms(network) < before


@torch.no_grad()
def test_every_batch_norm_of_a_basic_resnet_is_folded(images: Tensor) -> None:
    network = trained(create_model("resnet20", num_classes=7))
    fold_batch_norm(network, images)
    assert batch_norms(network) == 0


class Shared(nn.Module):
    """A convolution that is read twice, one that is used twice, and one in training mode: none may be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.read_twice, self.used_twice, self.live = (nn.Conv2d(3, 3, 1) for _ in range(3))
        self.norm1, self.norm2, self.norm3 = (nn.BatchNorm2d(3) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.read_twice(x)
        y = y + self.norm1(y)
        y = self.norm2(self.used_twice(y)) + self.used_twice(x)
        return self.norm3(self.live(y)).mean((2, 3))


@torch.no_grad()
def test_only_what_is_exact_is_folded(images: Tensor) -> None:
    network = trained(Shared())
    network.norm3.train()
    expected = network(images)
    fold_batch_norm(network, images)
    assert batch_norms(network) == 3
    torch.testing.assert_close(network(images), expected)


@torch.no_grad()
def test_behind_a_resize_too(images: Tensor) -> None:
    network = trained(create_model("vgg8", num_classes=7))
    adapted = for_data(network, InputSpec(64), image_size=32, mean=(0.5,) * 3, std=(0.2,) * 3).eval()
    expected = adapted(images)
    fold_batch_norm(adapted, images, ["block1.0"])
    assert batch_norms(adapted) == 1  # that of block1, whose convolution is read
    torch.testing.assert_close(adapted(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("path", ["conv1", "bn1", "layer2", "layer1.0.conv2", "layer3.0.downsample.0"])
@pytest.mark.parametrize("side", ["", ":input"])
@torch.no_grad()
def test_features_stay_what_they_are(path: str, side: str, images: Tensor) -> None:
    network = trained(create_model("resnet14", num_classes=7))
    seen: dict[str, Tensor] = {}
    handle = network.get_submodule(path).register_forward_hook(lambda m, i, o: seen.update({"": o, ":input": i[0]}))
    network(images)
    handle.remove()
    output = FrozenTeacher(network, [path + side])(images)
    torch.testing.assert_close(output.features[path + side], seen[side], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@torch.no_grad()
def test_logits_are_within_the_stated_tolerance(dtype: torch.dtype, images: Tensor) -> None:
    network = trained(create_model("wrn_16_2", num_classes=7))
    adapted = for_data(network, InputSpec(40, (0.4, 0.5, 0.5)), image_size=32, mean=(0.5,) * 3, std=(0.2,) * 3)
    expected = adapted(images)
    images = images.double() if dtype == torch.float64 else images
    logits = InferenceCopy(adapted, (), images, dtype)(images).logits
    error = (logits.double() - expected.double()).abs().max() / expected.abs().max()
    assert logits.dtype == dtype
    assert error < inference_copy.TOLERANCE[dtype] / 2
    assert dtype != torch.bfloat16 or error > 0  # it has been computed in bfloat16


def test_autocast_is_followed(images: Tensor) -> None:
    teacher = FrozenTeacher(create_model("resnet8", num_classes=7))
    with torch.autocast("cpu", torch.bfloat16):
        assert teacher(images).logits.dtype == torch.bfloat16
        assert teacher(images.double()).logits.dtype == torch.float64
    assert teacher(images).logits.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        own = FrozenTeacher(create_model("resnet8", num_classes=7), dtype=torch.float32)
        assert own(images).logits.dtype == torch.float32


def test_inference_copy_refuses_inexact_half_precision(monkeypatch: pytest.MonkeyPatch, images: Tensor) -> None:
    monkeypatch.setitem(inference_copy.TOLERANCE, torch.bfloat16, 1e-9)
    network = create_model("resnet8", num_classes=7).eval()
    teacher = FrozenTeacher(network, dtype=torch.bfloat16)
    with pytest.warns(UserWarning, match=r"teacher: its copy in bfloat16 differs .*; the teacher runs in float32"):
        logits = teacher(images).logits
    torch.testing.assert_close(logits, network(images), rtol=1e-4, atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert teacher(images).logits.dtype == torch.float32  # said once


def test_a_network_that_folding_would_change_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch, images: Tensor) -> None:
    def wrong(network: nn.Module, *_: object) -> None:
        network.bn1 = nn.Identity()

    monkeypatch.setattr(inference_copy, "fold_batch_norm", wrong)
    network = trained(create_model("resnet8", num_classes=7))
    with pytest.warns(UserWarning, match=r"its copy in float32 differs"):
        logits = FrozenTeacher(network)(images).logits
    torch.testing.assert_close(logits, network(images), rtol=1e-4, atol=1e-4)


def test_the_network_itself_is_untouched(images: Tensor) -> None:
    network = trained(create_model("resnet8", num_classes=7))
    before = {k: (v.clone(), v.stride()) for k, v in network.state_dict().items()}
    FrozenTeacher(network, dtype=torch.bfloat16)(images)
    after = network.state_dict()
    assert all(torch.equal(after[k], v) and after[k].stride() == s for k, (v, s) in before.items())


def test_convolutions_are_stored_channels_last() -> None:
    network = channels_last(create_model("resnet8", num_classes=7))
    assert network.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.fixture
def compiler(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("compiler")
def test_compiled_teacher_is_constant_and_the_student_is_not(images: Tensor) -> None:
    """The trap of freezing: set too widely, it bakes in the student too."""
    network, student = trained(create_model("resnet8", num_classes=7)), trained(create_model("resnet8", num_classes=7))
    teacher = FrozenTeacher(network, ["layer3"])
    teacher(images)  # asked before it is decided
    teacher.compiles = True
    running = inference_copy.compiled(lambda x: (student(x), {}))
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    first = teacher(images)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs + 1
    with torch.no_grad():
        before = running(images)[0]
        torch.testing.assert_close(first.logits, network(images), rtol=1e-3, atol=1e-3)
        network.fc.bias += 1
        student.fc.bias += 1
        assert torch.equal(teacher(images).logits, first.logits)
        torch.testing.assert_close(running(images)[0], before + 1, rtol=1e-3, atol=1e-3)
    assert first.features["layer3"].shape == (4, 256 // 4, 8, 8)
    torch.testing.assert_close(teacher(images[:3], eager=True).logits, first.logits[:3], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("device", "frozen"), [("cpu", True), ("cuda", False)])
def test_weights_are_frozen_on_cpus_only(device: str, frozen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[bool] = []

    def run(images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        found.append(torch._inductor.config.freezing)
        return torch.zeros(1, 10), {}

    images: Any = SimpleNamespace(device=torch.device(device), is_cuda=device == "cuda")
    monkeypatch.setattr(inference_copy, "compiled", lambda _: run)
    monkeypatch.setattr(inference_copy, "images_channels_last", lambda _: images)
    made = InferenceCopy(nn.Identity(), (), torch.zeros(1, 3, 8, 8), torch.float32, within_tolerance=True)
    made(torch.zeros(1, 3, 8, 8), compile=True)
    assert found == [frozen]
    assert not torch._inductor.config.freezing
