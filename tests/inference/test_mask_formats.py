"""Segmentation students in each format: images of any sides, in batches of any size."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning import load_student
from stkd_lightning.inference.export_folder import write_facts
from stkd_lightning.inference.formats import ONNX, Format, Safetensors, TorchExport, TorchScript
from stkd_lightning.inference.model_card import card
from stkd_lightning.inference.segmentation_student import SegmentationStudent
from stkd_lightning.inference.student_info import StudentFacts, checked
from stkd_lightning.inference.verify import compared, largest_difference
from stkd_lightning.models.build import build_network
from stkd_lightning.utilities.errors import InputError, RunError
from tests.inference.students import settled
from tests.inference.test_formats import said

DILATED = {"_target_": "stkd_lightning.models.DilatedResNet", "num_classes": 4, "width": 4, "weights": None}
UNET = {"_target_": "stkd_lightning.models.smp_model", "name": "Unet", "num_classes": 4, "encoder": "resnet18"}
SIZES = ((2, 104, 136), (1, 37, 61), (3, 50, 50), (1, 96, 64))


def facts(network: dict[str, Any] = DILATED, **changes: Any) -> StudentFacts:
    plain = {
        "network": network, "input": {"size": None}, "class_names": ["sky", "road", "tree|", "car"],
        "mean": (0.3, 0.4, 0.5), "std": (0.2, 0.25, 0.3), "image_size": [90, 120], "about": {},
        "task_name": "segmentation",
    }  # fmt: skip
    return checked(plain | changes, "facts")


def student(network: dict[str, Any] = DILATED) -> SegmentationStudent:
    """Return a student that nobody trained; its first layers are adapted to another normalization."""
    images = facts(network)
    built = build_network(OmegaConf.create(network), images, seed=1, mean=(0.5,) * 3, std=(0.2,) * 3)
    return SegmentationStudent(settled(built), replace(images, input={"mean": (0.5,) * 3, "std": (0.2,) * 3}))


@pytest.mark.parametrize("one", [ONNX(), TorchExport(), TorchScript(), Safetensors()], ids=lambda one: one.name)
def test_mask_formats_take_images_of_any_sides(one: Format, tmp_path: Path) -> None:
    original, file = student(), tmp_path / one.file
    one.write(original, file)
    again = one.read(file, original.facts)
    for count, height, width in SIZES:
        images = torch.randn(count, 3, height, width)
        with torch.inference_mode():
            expected, found = original(images), again(images)
        assert found.shape == (count, 4, height, width)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)
    assert largest_difference(original, one, file, torch.randn(2, 3, 90, 120)) < 2e-4
    told = said(one, file)
    assert told["input"].startswith("images (batch, 3, height, width), float32")
    assert told["output"] == "logits (batch, classes, height, width), before softmax"


@pytest.mark.parametrize("one", [TorchScript(), Safetensors()], ids=lambda one: one.name)
def test_networks_of_a_library_are_exported(one: Format, tmp_path: Path) -> None:
    original = student(UNET)
    one.write(original, tmp_path / one.file)
    assert largest_difference(original, one, tmp_path / one.file, torch.randn(2, 3, 90, 120)) < 1e-4


def test_files_are_compared_at_other_sides() -> None:
    batches = compared(student(), torch.zeros(2, 3, 180, 240))
    assert [tuple(batch.shape) for batch in batches] == [(1, 3, 180, 240), (2, 3, 180, 240), (1, 3, 123, 165)]
    small = compared(student(), torch.zeros(1, 3, 24, 32))
    assert [tuple(batch.shape) for batch in small] == [(1, 3, 24, 32), (2, 3, 24, 32), (1, 3, 67, 69)]
    for batch in (batches[2], small[2]):
        assert all(side % 8 for side in batch.shape[2:])


class OneSize(nn.Module):
    """Scores that are resized to a constant size."""

    def forward(self, images: Tensor) -> Tensor:
        return F.interpolate(images.mean(1, keepdim=True).expand(-1, 4, -1, -1), (90, 120), mode="bilinear")


def test_a_constant_size_in_a_file_is_found(tmp_path: Path) -> None:
    original, one = student(), TorchScript()
    original.network = OneSize()
    one.write(original, tmp_path / one.file)
    original.network = nn.Conv2d(3, 4, 1)
    with pytest.raises(RunError, match="format=torchscript: its logits differ|the exported file returns no logits"):
        largest_difference(original, one, tmp_path / one.file, torch.randn(2, 3, 90, 120))


def test_mask_export_is_loaded_as_a_segmentation_student(tmp_path: Path) -> None:
    original, one = student(), Safetensors()
    one.write(original, tmp_path / one.file)
    write_facts(tmp_path, one, original.facts, {})
    again = load_student(tmp_path)
    assert isinstance(again, SegmentationStudent)
    assert again.facts.image_size == (90, 120)
    images = torch.randn(1, 3, 33, 47)
    assert torch.equal(again(images), original(images))
    content = json.loads((tmp_path / "student.json").read_text())
    del content["student"]["task_name"]  # as an older version wrote it, for a classifier
    (tmp_path / "student.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="gives a class for each pixel"):
        load_student(tmp_path)


WRONG: list[Callable[[], StudentFacts]] = [
    lambda: facts(task_name="detection"),
    lambda: facts(image_size=[90, 120, 3]),
    lambda: facts(image_size=[90, 1 << 20]),
    lambda: facts(image_size=[90, True]),
]


@pytest.mark.parametrize("build", WRONG)
def test_facts_of_no_segmentation_student_are_refused(build: Callable[[], StudentFacts]) -> None:
    with pytest.raises(InputError, match="facts: its (task_name|image_size) is not valid"):
        build()


def test_card_of_a_segmentation_student() -> None:
    test = {"miou": 0.5, "pixel_accuracy": 0.8, "image_quality": 0.45, "iou/sky": 0.9, "iou/road": float("nan")}
    about = {
        "name": "DilatedResNet-w4",
        "data": {"name": "streets", "digest": "d"},
        "selection": "selected",
        "method": "dsd",
        "student": {"parameters": 100, "flops": 2_000_000, "test": test},
        "teacher": {"name": "DilatedResNet-w8", "test": {"miou": 0.7, "iou/sky": 0.95}},
    }
    text = card(facts(about=about), ONNX(), {"images": "2 test images", "largest_difference": 1e-6}, None)
    for words in (
        "pipeline_tag: image-segmentation",
        "name: mIoU",
        "A segmentation network of 4 classes for images of any sides, trained at 90x120, distilled from "
        "DilatedResNet-w8 by dsd",
        "the student with the best validation mIoU",
        "| | parameters | MFLOPs | mIoU, % | pixel accuracy, % | image IoU, % |",
        "| this student | 100 | 2.0 | 50.00 | 80.00 | 45.00 |",
        "| IoU, % | teacher | this student |",
        "| sky | 95.00 | 90.00 |",
        "| road |  |  |",
        "(mask,) = student.predict(",
        "mask = logits.argmax(1)",
        "(MFLOPs of one image of 90x120, two for each multiply-add.)",
        r"sky, road, tree\|, car",
    ):
        assert words in text, words
    assert "classifier" not in text
    assert "accuracy is unknown" not in text
