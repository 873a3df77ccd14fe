"""A network with a strided 1x1 convolution of few channels trains on a CPU."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from stkd_lightning.models import create_model, list_models
from stkd_lightning.models.memory_format import channels_last
from stkd_lightning.models.pointwise import StridedPointwise

TRAINING = """
import sys
import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from stkd_lightning import DistillationModule
from stkd_lightning.losses import CrossEntropyLoss

student = nn.Sequential(
    nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 1, stride=2), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
)
data = DataLoader(TensorDataset(torch.rand(32, 3, 64, 64), torch.arange(32) % 10), batch_size=16)
trainer = L.Trainer(
    max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(DistillationModule(student, CrossEntropyLoss(), compile=sys.argv[1] == "compile"), data)
"""


@pytest.mark.parametrize("mode", ["eager", pytest.param("compile", marks=pytest.mark.slow)])
def test_a_narrow_student_trains_to_the_end(mode: str) -> None:
    child = subprocess.run([sys.executable, "-c", TRAINING, mode], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr


@pytest.mark.parametrize("stride", [2, (2, 1), 3])
def test_strided_pointwise_equals_conv2d(stride: int | tuple[int, int]) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(5, 7, 1, stride)
    safe = channels_last(copy.deepcopy(plain))
    assert type(safe) is StridedPointwise
    assert repr(safe) == repr(plain)
    assert list(safe.state_dict()) == list(plain.state_dict())
    images = torch.randn(2, 5, 9, 8)
    results = []
    for network in (plain, copy.deepcopy(safe)):
        given = images.clone().requires_grad_()
        output = network(given)
        output.square().sum().backward()
        results.append([output, given.grad, network.weight.grad, network.bias.grad])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("options", "unsafe"),
    [
        ({"stride": 2}, True),
        ({"stride": 2, "padding": "valid"}, True),
        ({"in_channels": 15, "stride": 2}, True),
        ({"in_channels": 16, "stride": 2}, False),
        ({"stride": 1}, False),
        ({"stride": 2, "padding": 1}, False),
        ({"kernel_size": 3, "stride": 2}, False),
        ({"stride": 2, "groups": 2}, False),
    ],
)
def test_only_unsafe_convolutions_change(options: dict, unsafe: bool) -> None:
    convolution = nn.Conv2d(**{"in_channels": 8, "out_channels": 4, "kernel_size": 1, **options})
    assert (type(channels_last(convolution)) is StridedPointwise) == unsafe


def test_no_built_in_network_changes() -> None:
    for name in list_models():
        with torch.device("meta"):
            network = create_model(name, num_classes=10)
        channels_last(network)
        assert not any(isinstance(module, StridedPointwise) for module in network.modules()), name
