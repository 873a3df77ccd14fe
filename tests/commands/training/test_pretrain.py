"""Networks in the cache: read where they are whole, set aside and trained anew where they are not."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from stkd_lightning.callbacks import Checkpoints
from stkd_lightning.commands.training import pretrain
from stkd_lightning.commands.training.fit import Fitted
from stkd_lightning.commands.training.pretrain import Recipe, find, get_or_train
from stkd_lightning.data.datasets.digits import DigitsDataModule
from stkd_lightning.distillation.module import DistillationModule
from stkd_lightning.losses import CrossEntropyLoss
from stkd_lightning.models import create_model
from stkd_lightning.models.checkpoint_file import write_sealed
from stkd_lightning.utilities.errors import InputError

FIGURES = {"test": {"last": {"accuracy": 0.5}, "selected": {"accuracy": 0.25}}, "validation": {"accuracy": 0.75},
           "selected_epoch": 1, "images_per_second": 2.0, "seconds": 3.0}  # fmt: skip


def recipe(name: str = "resnet8") -> Recipe:
    network = {"_target_": "stkd_lightning.models.create_model", "name": name, "num_classes": 10}
    empty = OmegaConf.create({})
    trainer = OmegaConf.create({"precision": "32-true", "max_epochs": 1})
    return Recipe("teacher", OmegaConf.create(network), empty, empty, empty, trainer, 0)


def write_entry(folder: Path, name: str = "resnet8") -> None:
    folder.mkdir(parents=True)
    write_sealed({"state_dict": create_model(name, num_classes=10).state_dict()}, folder / "last.ckpt")
    (folder / "figures.json").write_text(json.dumps(FIGURES))


@pytest.fixture(scope="module")
def data() -> DigitsDataModule:
    return DigitsDataModule()


@pytest.fixture
def entry(data: DigitsDataModule, tmp_path: Path) -> Path:
    folder = tmp_path / recipe().key(data)
    write_entry(folder)
    return folder


def figures(**changes: object) -> Callable[[Path], object]:
    content = {k: v for k, v in {**FIGURES, **changes}.items() if v is not None}
    return lambda entry: (entry / "figures.json").write_text(json.dumps(content))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no figures": lambda entry: (entry / "figures.json").unlink(),
    "garbage figures": lambda entry: (entry / "figures.json").write_bytes(b"\x00\xff{"),
    "short figures": lambda entry: os.truncate(entry / "figures.json", 40),
    "nested figures": lambda entry: (entry / "figures.json").write_text("[" * 100_000),
    "a list of figures": lambda entry: (entry / "figures.json").write_text("[1]"),
    "a missing field": figures(selected_epoch=None),
    "a field of another type": figures(test=[0.5]),
    "a figure of another type": figures(validation={"accuracy": "high"}),
    "no checkpoint": lambda entry: (entry / "last.ckpt").unlink(),
    "garbage checkpoint": lambda entry: (entry / "last.ckpt").write_bytes(bytes(1000)),
    "short checkpoint": lambda entry: os.truncate(entry / "last.ckpt", 20_000),
    "another network": lambda entry: write_sealed(
        {"state_dict": create_model("resnet14", num_classes=10).state_dict()}, entry / "last.ckpt"
    ),
}


def test_find_reads_an_entry(entry: Path, data: DigitsDataModule) -> None:
    figures(of_a_later_version=1)(entry)
    network = find(recipe(), data, entry.parent)
    assert network is not None
    assert (network.key, network.fitted) == (entry.name, Fitted(**FIGURES))
    assert find(recipe("resnet14"), data, entry.parent) is None


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_entry_is_trained_anew(
    damage: Callable[[Path], object],
    entry: Path,
    data: DigitsDataModule,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def train(recipe: Recipe, folder: Path) -> Fitted:
        write_entry(folder)
        return Fitted(**FIGURES)

    monkeypatch.setattr(pretrain, "_train", train)
    damage(entry)
    assert find(recipe(), data, entry.parent) is None
    assert get_or_train(recipe(), data, entry.parent).fitted == Fitted(**FIGURES)
    assert find(recipe(), data, entry.parent) is not None
    assert entry.with_suffix(".damaged").is_dir()
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if f"{entry} cannot be used (" in line]) == 1
    get_or_train(recipe(), data, entry.parent)
    assert "cannot be used" not in capsys.readouterr().out


def test_entry_stays_where_its_network_cannot_be_built(
    entry: Path, data: DigitsDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*arguments: object, **options: object) -> None:
        raise InputError("network: a package is missing")

    monkeypatch.setattr(pretrain, "build_network", build)
    with pytest.raises(InputError, match="a package is missing"):
        get_or_train(recipe(), data, entry.parent)
    assert entry.is_dir()


@pytest.mark.parametrize(
    ("name", "fields", "continues"),
    [("resnet8", {}, True), ("resnet14", {}, False), ("resnet8", {"new": 1}, False), ("resnet8", None, False)],
    ids=["same", "another network", "another version", "no callbacks"],
)
def test_training_continues_only_from_its_own_checkpoint(
    name: str, fields: dict[str, int] | None, continues: bool, tmp_path: Path
) -> None:
    checkpoints = Checkpoints(tmp_path, select=True)
    saved = DistillationModule(create_model(name, num_classes=10), CrossEntropyLoss())
    callbacks = {} if fields is None else {checkpoints.state_key: checkpoints.state_dict() | fields}
    write_sealed({"state_dict": saved.state_dict(), "callbacks": callbacks}, tmp_path / "last.ckpt")
    module = DistillationModule(create_model("resnet8", num_classes=10), CrossEntropyLoss())
    assert pretrain._continues(tmp_path / "last.ckpt", module, checkpoints) is continues


@pytest.mark.parametrize(("missing", "continues"), [("validated_step", True), ("best_step", False)])
def test_training_of_an_earlier_version_continues(missing: str, continues: bool, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, select=True)
    module = DistillationModule(create_model("resnet8", num_classes=10), CrossEntropyLoss())
    state = {name: value for name, value in checkpoints.state_dict().items() if name != missing}
    callbacks = {checkpoints.state_key: state}
    write_sealed({"state_dict": module.state_dict(), "callbacks": callbacks}, tmp_path / "last.ckpt")
    assert pretrain._continues(tmp_path / "last.ckpt", module, checkpoints) is continues
    if continues:
        checkpoints.load_state_dict(state)
