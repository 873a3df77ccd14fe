import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from stkd_lightning import load_student
from stkd_lightning.data import ImageFolderDataModule
from stkd_lightning.inference.about import name_of
from stkd_lightning.inference.predict import predictions
from stkd_lightning.utilities.errors import InputError
from tests.data.conftest import picture
from tests.inference.students import NETWORKS, checkpoint


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_checkpoint_is_loaded_as_it_was_trained(kind: str, tmp_path: Path) -> None:
    path, network = checkpoint(tmp_path / "run", kind)
    images = torch.randn(3, 3, 8, 8)
    state = torch.random.get_rng_state()
    for place in (tmp_path / "run", path):
        student = load_student(place)
        torch.testing.assert_close(student(images), network(images), rtol=0, atol=0)
    assert torch.equal(state, torch.random.get_rng_state())
    assert not any(p.requires_grad for p in student.parameters())
    assert not any(module.training for module in student.train().modules())
    assert student.class_names == tuple("0123456789")
    assert (student.mean, student.std, student.image_size) == ((0.3, 0.4, 0.5), (0.2, 0.25, 0.3), 8)
    about = student.about
    assert (about["method"], about["data"]["name"], about["epochs"]) == ("stkd", "digits", 8)
    assert isinstance(about["epochs"], int)
    assert about["teacher"]["name"] == "resnet20"
    accuracies = [about[role]["test"]["accuracy"] for role in ("student", "alone", "teacher")]
    assert accuracies == pytest.approx([0.91, 0.81, 0.95])
    assert "/home/me" not in str(student.facts)


def test_a_summary_of_other_data_is_not_its_own(tmp_path: Path) -> None:
    path, _ = checkpoint(tmp_path / "run")
    summary = tmp_path / "run" / "summary.json"
    summary.write_text(summary.read_text().replace("d" * 64, "e" * 64))
    assert "student" not in load_student(path).about
    summary.write_text("{")
    assert "student" not in load_student(path).about


def test_files_are_seen_as_in_training(tmp_path: Path) -> None:
    """What the data module shows of pictures of many shapes and modes is what ``preprocess`` makes of their files."""
    photos = tmp_path / "photos"
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            picture(photos / split / name / "wide.png", (50, 31))
            picture(photos / split / name / "high.png", (20, 64), "L")
            picture(photos / split / name / "exact.png", (16, 16))
    data = ImageFolderDataModule(photos, image_size=16, validation_fraction=0, cache_dir=tmp_path)
    (batch,) = data.test_dataloader()
    path, _ = checkpoint(
        tmp_path / "run", size=16, class_names=["cat", "dog"] * 5, mean=list(data.mean), std=list(data.std)
    )
    files = sorted((photos / "test").rglob("*.png"))
    assert torch.equal(load_student(path).preprocess(files), batch.images)


def test_predictions(tmp_path: Path) -> None:
    path, _ = checkpoint(tmp_path / "run")
    student = load_student(path)
    files = [tmp_path / f"{i}.png" for i in range(70)]  # more than a batch
    for file in files:
        picture(file, (9, 8))
    found = student.predict(files, top=3)
    assert [one.path for one in found] == files
    expected = student(student.preprocess(files)).softmax(1)
    for one, probabilities in zip(found, expected, strict=True):
        order = probabilities.argsort(descending=True)[:3]
        assert one.classes == tuple(student.class_names[i] for i in order)
        assert one.probabilities == pytest.approx(probabilities[order].tolist(), rel=1e-4)
    (one,) = student.predict(str(files[0]), top=99)
    assert sum(one.probabilities) == pytest.approx(1, abs=1e-5)
    assert student.predict([]) == []
    assert student.preprocess([]).shape == (0, 3, 8, 8)
    files[1].write_bytes(b"no image")
    with pytest.raises(InputError, match=f"image {files[1]}: cannot be read"):
        student.predict(files)
    with pytest.raises(InputError, match="top=0: must be a whole number of at least 1"):
        student.predict(files, top=0)


def test_many_pictures_take_the_memory_of_few(tmp_path: Path) -> None:
    """200 pictures that decode to 245 MB in all, in batches of 4: no more than two batches and one copy are there."""
    student = load_student(checkpoint(tmp_path / "run", size=640)[0])
    student.network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    Image.fromarray(np.zeros((640, 640, 3), np.uint8)).save(tmp_path / "black.png")
    tracemalloc.start()
    try:
        paths = (tmp_path / "black.png" for _ in range(200))
        assert sum(1 for _ in predictions(student, paths, top=3, batch_size=4)) == 200
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40e6


WRONG: list[tuple[str, Any, str]] = [
    ("class_names", [], "its class_names is not"),
    ("class_names", "ab", "made for 10 classes"),
    ("image_size", 10**9, "its image_size is not"),
    ("image_size", "8", "data: image_size must be a whole number or a list, not '8'"),
    ("class_names", ["a", 1], r"data: class_names[1] must be text, not 1"),
    ("mean", [0.5, float("nan"), 0.5], "its mean is not"),
    ("std", [0.5, 0.0, 0.5], "its std is not"),
    ("mean", None, "its mean is not"),
]


@pytest.mark.parametrize(("name", "value", "words"), WRONG)
def test_facts_that_are_not_a_students(name: str, value: Any, words: str, tmp_path: Path) -> None:
    path, _ = checkpoint(tmp_path / "run")
    content = torch.load(path, weights_only=True)
    content["stkd_lightning"]["data"][name] = value
    torch.save(content, path)
    with pytest.raises(InputError, match=f"^checkpoint {path}: |^network ") as caught:
        load_student(path)
    assert words in str(caught.value) or name == "class_names"


def test_a_hostile_checkpoint_builds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path, _ = checkpoint(tmp_path / "run")
    evil = {"_target_": "numpy.save", "file": "pwned.npy", "arr": [1]}
    zoo = NETWORKS["zoo"]
    networks: list[Any] = [
        evil,
        {**zoo, "weights": evil},
        {**zoo, "name": "${oc.env:HOME}"},
        {**zoo, "num_classes": {"_target_": "builtins.eval"}},
        {**NETWORKS["reusing"], "teacher": evil},
        {**NETWORKS["spirit"], "teacher": evil},
        {**zoo, "_partial_": True},
        {**zoo, "colour": 3},
        "network",
    ]
    for network in networks:
        content = torch.load(path, weights_only=True)
        content["stkd_lightning"]["config"]["student"] = network
        torch.save(content, path)
        with pytest.raises(InputError, match=f"^checkpoint {path}: "):
            load_student(path)
    for file in (tmp_path / "nothing.ckpt", tmp_path):
        with pytest.raises(InputError, match="no such file|a folder without checkpoints/best.ckpt"):
            load_student(file)
    assert not (tmp_path / "pwned.npy").exists()


@pytest.mark.parametrize(
    ("node", "name"),
    [
        (NETWORKS["zoo"], "resnet8"),
        ({"_target_": "stkd_lightning.models.DilatedResNet", "width": 8}, "DilatedResNet-w8"),
        ({"_target_": "stkd_lightning.models.smp_model", "name": "PSPNet", "encoder": "resnet18"}, "PSPNet-resnet18"),
        ({"_target_": "mine.Narrow", "width": 8}, "Narrow"),
        ({}, ""),
    ],
)
def test_networks_are_named_by_what_distinguishes_them(node: dict[str, Any], name: str) -> None:
    assert name_of(node) == name
