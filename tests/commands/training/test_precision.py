"""What is decided for a run from its networks, its length and the hardware."""

import pytest
import torch
from omegaconf import OmegaConf

from stkd_lightning.commands.training import precision
from stkd_lightning.commands.training.precision import device_type, resolve_compile, resolve_precision
from stkd_lightning.models import create_model
from stkd_lightning.utilities.errors import InputError


@pytest.mark.parametrize("half", [True, False])
def test_bfloat16_where_hardware_and_network_gain(half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: half)
    expected = "bf16-mixed" if half else "32-true"
    assert resolve_precision("auto", create_model("resnet8x4", 10), "cpu") == expected
    assert resolve_precision("auto", create_model("ShuffleV1", 10), "cuda") == expected
    assert resolve_precision("auto", create_model("ShuffleV1", 10), "cpu") == "32-true"  # depthwise
    assert resolve_precision("16-mixed", create_model("resnet8x4", 10), "cpu") == "16-mixed"


def compiled(setting: bool | str, flops: float, steps: int = 1, device: str = "cpu") -> bool:
    return resolve_compile(setting, device=device, flops=flops, steps=steps)


def test_only_long_runs_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision.shutil, "which", lambda name: name)
    quickstart = 3 * 1.6e6 * 1212 * 8
    literature = (2.2e9 + 3 * 0.35e9) * 45_000 * 240
    assert not compiled("auto", quickstart)
    assert compiled("auto", literature)
    assert not compiled(False, literature)
    assert compiled(True, 1.0)
    assert compiled("auto", 1.0, steps=170_000, device="cuda")
    assert not compiled("auto", 1.0, steps=1_000, device="cuda")
    assert not compiled("auto", literature, device="mps")


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision.shutil, "which", lambda name: None)
    assert not compiled("auto", 1e30)
    with pytest.raises(
        InputError, match=r"compile=true: needs a C\+\+ compiler \(g\+\+ or clang\+\+\); .* compile=false"
    ):
        compiled(True, 1.0)


def test_the_device_of_a_trainer() -> None:
    assert device_type(OmegaConf.create({"accelerator": "cpu"})) == "cpu"
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert device_type(OmegaConf.create({"accelerator": "auto"})) == expected
