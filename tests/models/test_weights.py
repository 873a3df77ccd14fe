"""Every envelope that users have is read; nothing that they hold is executed."""

import argparse
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from stkd_lightning.models import create_model
from stkd_lightning.teacher import load_weights
from stkd_lightning.utilities.errors import InputError

State = dict[str, torch.Tensor]


def prefixed(prefix: str, state: State) -> State:
    return {prefix + k: v for k, v in state.items()}


ENVELOPES: dict[str, Callable[[State, State], Any]] = {
    "bare": lambda s, o: s,
    "RepDistiller best": lambda s, o: {"epoch": 240, "model": s, "best_acc": torch.tensor(72.3)},
    "RepDistiller last": lambda s, o: {"opt": argparse.Namespace(lr=0.05), "model": s, "accuracy": 72.3},
    "mdistiller vanilla": lambda s, o: {"model": prefixed("module.student.", s), "optimizer": {}, "best_acc": 1.0},
    "mdistiller distilled": lambda s, o: {
        "model": {**prefixed("module.teacher.", o), **prefixed("module.student.", s)},
        "epoch": 240,
    },
    "timm": lambda s, o: {"state_dict": o, "state_dict_ema": s, "arch": "x"},
    "Lightning": lambda s, o: {"state_dict": prefixed("model.", s), "pytorch-lightning_version": "2.6", "loops": {}},
    "this project": lambda s, o: {"state_dict": {**prefixed("student.", s), "loss.weight": torch.ones(1)}},
    "data parallel": lambda s, o: prefixed("module.", s),
    "compiled": lambda s, o: {"state_dict": prefixed("_orig_mod.", s)},
    "compiled inside": lambda s, o: prefixed("module._orig_mod.", s),
    "old": lambda s, o: {k: v for k, v in s.items() if not k.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("envelope", ENVELOPES)
def test_envelopes(envelope: str, tmp_path: Path) -> None:
    source, target = create_model("resnet8", num_classes=10), create_model("resnet8", num_classes=10)
    other = create_model("resnet14", num_classes=10)
    torch.save(ENVELOPES[envelope](source.state_dict(), other.state_dict()), tmp_path / "w.pth")
    load_weights(target, tmp_path / "w.pth")
    for name, value in target.named_parameters():
        assert torch.equal(value, source.get_parameter(name)), name


def test_safetensors(tmp_path: Path) -> None:
    source, target = create_model("resnet8", num_classes=10), create_model("resnet8", num_classes=10)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    load_weights(target, tmp_path / "w.safetensors")
    assert torch.equal(target.fc.weight, source.fc.weight)


def test_torchdistill_wide_resnet(tmp_path: Path) -> None:
    source, target = create_model("wrn_16_2", num_classes=10), create_model("wrn_16_2", num_classes=10)
    renamed = {}
    for key, value in source.state_dict().items():
        if key.startswith("block"):
            key = f"layer{key[5]}{key[12:]}".replace("convShortcut", "shortcut.0")
        renamed[key] = value
    assert "layer1.0.shortcut.0.weight" in renamed
    torch.save({"model": renamed}, tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt")
    assert torch.equal(target.block2.layer[0].convShortcut.weight, source.block2.layer[0].convShortcut.weight)


def test_a_network_whose_own_keys_look_like_a_prefix(tmp_path: Path) -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Linear(3, 2)

    source, target = Wrapped(), Wrapped()
    torch.save(source.state_dict(), tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt")
    assert torch.equal(source.model.weight, target.model.weight)


def test_other_classes_are_named(tmp_path: Path) -> None:
    torch.save(create_model("resnet8", num_classes=100).state_dict(), tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w.pth: made for 100 classes, the data has 10 \(fc.weight\)"):
        load_weights(create_model("resnet8", num_classes=10), tmp_path / "w.pth")


def test_keys_that_do_not_fit_are_named_and_nothing_is_loaded(tmp_path: Path) -> None:
    torch.save(create_model("resnet14", num_classes=10).state_dict(), tmp_path / "w.pth")
    network = create_model("resnet8", num_classes=10)
    before = network.conv1.weight.clone()
    with pytest.raises(InputError, match=r"does not fit ResNet: unexpected layer1.1.conv1.weight, .* and \d+ more"):
        load_weights(network, tmp_path / "w.pth")
    assert torch.equal(network.conv1.weight, before)
    torch.save(create_model("vgg8", num_classes=10).state_dict(), tmp_path / "v.pth")
    with pytest.raises(InputError, match="missing conv1.weight.*unexpected block0.0.weight"):
        load_weights(network, tmp_path / "v.pth")


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("executed"),))


def test_no_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Hostile()}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="refused, because it holds more than weights"):
        load_weights(create_model("resnet8", num_classes=10), tmp_path / "w.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(InputError, match="raw.pth"):
        load_weights(create_model("resnet8", num_classes=10), tmp_path / "raw.pth")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_damaged_files_are_named(name: str, tmp_path: Path) -> None:
    network = create_model("resnet8", num_classes=10)
    for content in (b"", b"not a checkpoint", b"\x80\x02}q\x00"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"checkpoint .*{name}: "):
            load_weights(network, tmp_path / name)


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "other.pth").touch()
    with pytest.raises(InputError, match=r"nope.pth: no such file; there: other.pth"):
        load_weights(create_model("resnet8", num_classes=10), tmp_path / "nope.pth")
