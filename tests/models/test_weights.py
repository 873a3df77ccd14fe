"""Every envelope that users have is read; nothing that they hold is executed."""

import argparse
import pickle
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from stkd_lightning.models import create_model, weights
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
    "net": lambda s, o: {"net": prefixed("net.", s), "acc": 72.3},
    "model_state_dict": lambda s, o: {
        "model_state_dict": prefixed("backbone.", s),
        "optimizer_state_dict": {"state": {}},
    },
    "params": lambda s, o: {"params": s, "args": {"lr": 0.1}},
    "teacher beside another network": lambda s, o: {"teacher": prefixed("module.encoder.", s), "student": o},
    "any name": lambda s, o: {"weights of the run": s},
    "NumPy and paths": lambda s, o: {
        "state_dict": s,
        "best": np.float64(72.3),
        "epoch": np.int64(3),
        "curve": np.linspace(0, 1, 3),
        "random": np.random.RandomState(0).get_state(),
        "args": argparse.Namespace(out=Path("runs"), data=PureWindowsPath("c:/data"), scale=np.float32(1)),
    },
    "equal twice": lambda s, o: {"model": s, "state_dict": prefixed("module.", s)},
    "average": lambda s, o: {"model": {k: v + 1 for k, v in s.items()}, "model_ema": prefixed("module.", s)},
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


def test_several_weights_that_fit_are_named(tmp_path: Path) -> None:
    trained = {name: create_model("resnet8", num_classes=10) for name in ("student", "teacher")}
    target = create_model("resnet8", num_classes=10)
    states = {name: network.state_dict() for name, network in trained.items()}
    torch.save({"epoch": 1, **states}, tmp_path / "apart.pth")
    inside = {**prefixed("module.student.", states["student"]), **prefixed("module.teacher.", states["teacher"])}
    torch.save({"model": inside}, tmp_path / "inside.pth")
    for file, below in (("apart.pth", ""), ("inside.pth", "model.module.")):
        words = f"{below}student and {below}teacher fit ResNet; .*checkpoint_key={below}student, .*; the file holds"
        with pytest.raises(InputError, match=words):
            load_weights(target, tmp_path / file)
        for name, network in trained.items():
            load_weights(target, tmp_path / file, key=f"{below}{name}")
            assert torch.equal(target.fc.weight, network.fc.weight)
    with pytest.raises(InputError, match="student and .*teacher fit ResNet"):
        load_weights(target, tmp_path / "inside.pth", key="model")
    with pytest.raises(InputError, match="holds no tensors under 'ema'; the file holds epoch, student, teacher"):
        load_weights(target, tmp_path / "apart.pth", key="ema")


def test_a_refusal_lists_the_keys_of_the_file(tmp_path: Path) -> None:
    network = create_model("resnet8", num_classes=10)
    other = create_model("resnet14", num_classes=10).state_dict()
    torch.save({"epoch": 3, "net": other, "optimizer": {}, "scheduler": {}, "args": {}}, tmp_path / "w.pth")
    words = (
        "does not fit ResNet: unexpected layer1.1.conv1.weight.*; the file holds epoch, net, optimizer, scheduler and 1"
    )
    with pytest.raises(InputError, match=words):
        load_weights(network, tmp_path / "w.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(InputError, match="missing conv1.weight.*; the file holds epoch$"):
        load_weights(network, tmp_path / "empty.pth")


def test_tensors_that_repeat_their_content_are_refused(tmp_path: Path) -> None:
    network = nn.Linear(10**4, 3 * 10**3, bias=False, device="meta")
    torch.save({"weight": torch.ones(1).expand(3 * 10**3, 10**4)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="repeat their content up to 114 MiB"):
        load_weights(network, tmp_path / "w.pth")


def test_a_large_record_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "LARGEST_RECORD", 1 << 20)
    torch.save({"a": torch.ones(1), "names": ["x"] * 600_000}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="holds 1 MiB beside its tensors; save the weights alone"):
        load_weights(nn.Linear(1, 1), tmp_path / "w.pth")


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


def test_weights_of_a_new_network_are_chosen_by_key(tmp_path: Path) -> None:
    trained = {name: create_model("resnet8", num_classes=10) for name in ("student", "teacher")}
    torch.save({name: network.state_dict() for name, network in trained.items()}, tmp_path / "both.pth")
    with pytest.raises(InputError, match="or with [+]student.weights_key=... for student.weights"):
        create_model("resnet8", num_classes=10, weights=tmp_path / "both.pth")
    network = create_model("resnet8", num_classes=10, weights=tmp_path / "both.pth", weights_key="teacher")
    assert torch.equal(network.fc.weight, trained["teacher"].fc.weight)
