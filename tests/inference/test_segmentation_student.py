"""A segmentation student by itself: masks of image files, and the folder that they are written to."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stkd_lightning import load_student
from stkd_lightning.inference.mask_folder import class_shares, mask_folder, overlay, palette_image
from stkd_lightning.inference.masks import Mask, predicted_masks
from stkd_lightning.inference.segmentation_student import SegmentationStudent
from stkd_lightning.models import DilatedResNet
from stkd_lightning.utilities.colours import class_colours
from stkd_lightning.utilities.errors import InputError
from tests.inference.students import checkpoint
from tests.segmentation import CLASSES


@pytest.fixture
def student(segmentation: Path) -> SegmentationStudent:
    loaded = load_student(segmentation / "run")
    assert isinstance(loaded, SegmentationStudent)
    return loaded


def test_segmentation_student_is_loaded_by_its_task(student: SegmentationStudent) -> None:
    assert isinstance(student.network, DilatedResNet)
    assert not student.training
    assert student.class_names == CLASSES
    assert student.facts.image_size == (24, 32)
    assert student.image_size == 24
    assert student.about["teacher"]["name"] == "DilatedResNet-w8"
    assert 0 <= student.about["student"]["test"]["miou"] <= 1
    assert student(torch.zeros(2, 3, 40, 17)).shape == (2, 3, 40, 17)


def test_a_classifier_stays_a_plain_student(tmp_path: Path) -> None:
    loaded = load_student(checkpoint(tmp_path / "run")[0])
    assert not isinstance(loaded, SegmentationStudent)
    assert loaded.facts.task_name == "classification"


def test_masks_are_the_classes_of_the_logits(student: SegmentationStudent, segmentation: Path) -> None:
    files = sorted((segmentation / "data" / "test" / "images").glob("*.png"))
    masks = student.predict(files)
    assert [mask.shape for mask in masks] == [(24, 32), (30, 20), (24, 32), (24, 32)]
    for file, mask in zip(files, masks, strict=True):
        assert mask.dtype == np.uint8
        assert np.array_equal(mask, student(student.preprocess(file)).argmax(1)[0].numpy())
    assert student.preprocess([files[0], files[2]]).shape == (2, 3, 24, 32)
    with pytest.raises(InputError, match=r"images \S*0.png and \S*1.png: have unequal sides, 24x32 and 30x20"):
        student.preprocess(files)
    assert student.predict([]) == []


def test_masks_of_windows_cover_the_image(student: SegmentationStudent, segmentation: Path) -> None:
    file = segmentation / "data" / "test" / "images" / "1.png"
    (whole,), (same,) = student.predict(file), student.predict(file, window=(64, 64))
    assert np.array_equal(whole, same)
    (mask,) = student.predict(file, window=(16, 16))
    assert mask.shape == (30, 20)


def test_unreadable_images_have_an_error(student: SegmentationStudent, segmentation: Path, tmp_path: Path) -> None:
    good = segmentation / "data" / "test" / "images" / "0.png"
    (tmp_path / "broken.png").write_bytes(b"no image")
    results = list(predicted_masks(student, [good, tmp_path / "broken.png", good]))
    assert [isinstance(result, Mask) for result in results] == [True, False, True]
    with pytest.raises(InputError, match="broken.png: cannot be read"):
        student.predict([good, tmp_path / "broken.png"])


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:126] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "numpy"],
)
def test_images_beyond_the_memory_are_named(
    error: Exception, student: SegmentationStudent, segmentation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(images: torch.Tensor) -> torch.Tensor:
        raise error

    monkeypatch.setattr(student.network, "forward", fail)
    file = segmentation / "data" / "test" / "images" / "1.png"
    with pytest.raises(
        InputError, match=r"1.png: 20 x 30 pixels need more memory than there is; set window=\[512,512\]"
    ):
        student.predict(file)
    with pytest.raises(InputError, match=r"set window=\[8,10\]"):
        student.predict(file, window=(16, 20))


def test_other_errors_of_a_network_are_raised(
    student: SegmentationStudent, segmentation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("a fault of its own")

    monkeypatch.setattr(student.network, "forward", fail)
    with pytest.raises(RuntimeError, match="a fault of its own"):
        student.predict(segmentation / "data" / "test" / "images" / "1.png")


def mask(height: int = 5, width: int = 4, count: int = 3) -> Mask:
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (3, height, width)).astype(np.uint8)
    return Mask(Path("photos/a.jpg"), image, random.integers(0, count, (height, width)).astype(np.uint8))


@pytest.mark.parametrize("count", [2, 3, 17, 255])
def test_palette_png_holds_classes_and_colours(count: int, tmp_path: Path) -> None:
    one = mask(count=count)
    palette_image(one, count).save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as file:
        assert (file.format, file.mode, file.size) == ("PNG", "P", (4, 5))
        assert np.array_equal(np.asarray(file), one.classes)
        assert np.array_equal(np.asarray(file.convert("RGB")), class_colours(count)[one.classes])


def test_overlay_is_half_image_half_colours() -> None:
    one = mask()
    expected = (one.image.transpose(1, 2, 0).astype(float) + class_colours(3)[one.classes]) / 2
    assert np.abs(np.asarray(overlay(one, 3)) - expected).max() <= 0.5


@pytest.mark.parametrize("overlays", [True, False])
def test_mask_folder_holds_masks_overlays_and_shares(overlays: bool, tmp_path: Path) -> None:
    one = mask()
    with mask_folder(tmp_path / "out", ("=a", "b", "c"), overlays=overlays) as write:
        write(one.path, Path("below/a.png"), one)
        write(Path("photos/b.jpg"), Path("b.png"), InputError("image photos/b.jpg: cannot be read"))
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"masks/below/a.png", "shares.csv", *["overlays/below/a.png"] * overlays}
    with (tmp_path / "out" / "shares.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["image", "mask", "error", "'=a", "b", "c"]
    assert rows[1][:3] == ["photos/a.jpg", "masks/below/a.png", ""]
    assert [float(cell) for cell in rows[1][3:]] == pytest.approx(class_shares(one, 3), abs=1e-6)
    assert class_shares(one, 3).sum() == pytest.approx(1)
    assert rows[2] == ["photos/b.jpg", "", "image photos/b.jpg: cannot be read", "", "", ""]
