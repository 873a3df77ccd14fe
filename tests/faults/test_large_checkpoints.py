"""Small checkpoints that ask for much memory, time or a download."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from stkd_lightning import load_student
from stkd_lightning.commands.evaluate import evaluate
from stkd_lightning.data.datasets import archive_module
from stkd_lightning.inference.student_info import StudentFacts
from stkd_lightning.models.build import build_network
from stkd_lightning.utilities.errors import InputError
from tests.inference.students import ZOO, checkpoint


def rewritten(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    content = torch.load(path)
    change(content["stkd_lightning"])
    torch.save(content, path)
    return path


LARGE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "input": (lambda own: own["input"].update(size=4096), "its input is not valid: .*4096"),
    "classes": (
        lambda own: own["config"]["student"].update(num_classes=10**7),
        "made for 10 classes, the data has 10000000",
    ),
    "network": (lambda own: own["config"]["student"].update(name="ResNet50"), "does not fit BottleneckResNet"),
    "network of torchvision": (
        lambda own: own["config"].update(
            student={
                "_target_": "stkd_lightning.models.torchvision_model",
                "name": "regnet_y_400mf",
                "num_classes": 10**7,
            }
        ),
        "its network has 10000000 classes, the data 10",
    ),
    "names": (
        lambda own: own["data"].update(class_names=["x"] * 5000),
        "gives .10,. values for an image, the data has 5000",
    ),
    "inside": (
        lambda own: own["config"].update(
            distilled={
                "_target_": "stkd_lightning.models.reuse_classifier",
                "student": own["config"]["student"],
                "teacher": {**own["config"]["student"], "num_classes": 10**9},
            }
        ),
        "its teacher has 65,.* parameters, too many to build",
    ),
    "images inside": (
        lambda own: own["config"].update(
            distilled={
                "_target_": "stkd_lightning.models.spirit_student",
                "student": own["config"]["student"],
                "teacher": own["config"]["student"],
                "image_size": 10**6,
            }
        ),
        "distilled.image_size=1000000: must be at most 1024",
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_checkpoints_that_ask_for_much_take_little(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change, words = LARGE[name]
    path = rewritten(checkpoint(tmp_path / "run")[0], change)
    linear = torch.nn.Linear.__init__

    def small(layer: torch.nn.Linear, *sizes: int, **options: Any) -> None:
        linear(layer, *sizes, **options)
        assert layer.weight.is_meta or layer.weight.numel() < 10**6

    monkeypatch.setattr(torch.nn.Linear, "__init__", small)
    with pytest.raises(InputError, match=words):
        load_student(path)


def test_a_teacher_does_not_choose_huge_images(tmp_path: Path) -> None:
    path = rewritten(checkpoint(tmp_path / "run")[0], LARGE["input"][0])
    facts = StudentFacts(ZOO, {}, tuple("0123456789"), (0.5,) * 3, (0.5,) * 3, 8, {})
    with pytest.raises(InputError, match=LARGE["input"][1]):
        build_network(OmegaConf.create(ZOO), facts, checkpoint=str(path))
    build_network(OmegaConf.create(ZOO), facts, checkpoint=str(path), input_size=16)


def test_evaluate_does_not_download_into_a_folder_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration does not say ``download``, whose default is to download."""
    dataset = {"_target_": "stkd_lightning.data.CIFAR10DataModule", "data_dir": str(tmp_path / "theirs")}
    path, _ = checkpoint(tmp_path / "run", size=32, dataset=dataset)
    fetched: list[Path] = []

    def fetch(archive: Any, folder: Path) -> Path:
        fetched.append(folder)
        raise InputError("no network")

    monkeypatch.setattr(archive_module, "fetch", fetch)
    options = {"checkpoint": str(path), "split": "test", "trust": False, "cache_dir": str(tmp_path), "batch_size": 8,
               "window": None}  # fmt: skip
    with pytest.raises(InputError, match=r"dataset cifar10: .*theirs.* is missing; get it with"):
        evaluate(OmegaConf.create({**options, "data_dir": None}))
    assert not fetched
    with pytest.raises(InputError, match="no network"):
        evaluate(OmegaConf.create({**options, "data_dir": str(tmp_path / "mine")}))
    assert fetched == [tmp_path / "mine"]


@pytest.mark.parametrize("size", [1025, 4096])
def test_a_student_of_huge_images_needs_trust(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = rewritten(checkpoint(tmp_path / "run")[0], lambda own: own["data"].update(image_size=size))
    with pytest.raises(InputError, match=f"asks for images of {size} pixels a side, above 1024; trust=true allows it"):
        load_student(path)
    monkeypatch.setattr("stkd_lightning.inference.load.build", lambda facts, weights: torch.nn.Identity())
    assert load_student(path, trust=True).image_size == size
