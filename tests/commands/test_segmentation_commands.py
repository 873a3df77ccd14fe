"""The commands on a finished segmentation run: evaluate, predict, export and report."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stkd_lightning import load_student
from stkd_lightning.commands.cache_entries import find_entries
from stkd_lightning.commands.diagnose import diagnose_run
from stkd_lightning.commands.image_list import NamedImage
from stkd_lightning.commands.predict_masks import mask_names
from stkd_lightning.reporting.diagnostics_file import FILE
from stkd_lightning.reporting.run import read_run
from stkd_lightning.reporting.segmentation_diagnostics import SegmentationDiagnostics
from stkd_lightning.utilities.errors import InputError
from tests.conftest import Command
from tests.inference.students import checkpoint
from tests.segmentation import CLASSES


def summary(segmentation: Path) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    return json.loads((segmentation / "run" / "summary.json").read_text())


def test_segmentation_run_has_diagnostics(segmentation: Path) -> None:
    run = read_run(segmentation / "run")
    diagnostics = run.diagnostics_of(SegmentationDiagnostics)
    assert diagnostics is not None
    assert diagnostics.has_teacher
    assert (diagnostics.images, len(diagnostics.shown)) == (6, 6)
    assert run.diagnostics is not None
    assert run.teacher == "DilatedResNet-w8"


def test_report_measures_a_segmentation_run_again(segmentation: Path, tmp_path: Path) -> None:
    """From the checkpoint of a copy: equal to what the run wrote at its end."""
    shutil.copytree(segmentation / "run", tmp_path / "run")
    before = SegmentationDiagnostics.read(tmp_path / "run" / FILE)
    (tmp_path / "run" / FILE).unlink()
    run = read_run(tmp_path / "run")
    diagnose_run(run, run, trust=False)
    after = SegmentationDiagnostics.read(tmp_path / "run" / FILE)
    for name, values in vars(before).items():
        assert np.allclose(values, getattr(after, name), atol=1e-4), name


def test_evaluate_prints_and_draws_segmentation(command: Command, segmentation: Path, tmp_path: Path) -> None:
    run = segmentation / "run"
    done = command("evaluate", f"checkpoint={run}", "figures=figures", "output=metrics.json", "trainer=cpu")
    assert done.returncode == 0, done.stderr
    test = summary(segmentation)["student"]["test"]["selected"]
    assert f"test/miou: {test['miou']:.4f}" in done.stdout
    assert "test/iou" not in done.stdout
    for name in CLASSES:
        assert re.search(rf"{name} +{100 * test[f'iou/{name}']:.2f}", done.stdout), done.stdout
    assert "figures: class_iou.png, masks.png" in done.stdout
    for name in ("class_iou", "masks"):
        with Image.open(tmp_path / "figures" / f"{name}.png") as picture:
            assert picture.width == 1000
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["miou"] == pytest.approx(test["miou"])


def test_evaluate_takes_windows_and_validation_images(command: Command, segmentation: Path) -> None:
    checkpoint = f"checkpoint={segmentation / 'run' / 'checkpoints' / 'last.ckpt'}"
    done = command("evaluate", checkpoint, "split=val", "window=[64,64]", "trainer=cpu", "batch_size=2")
    assert done.returncode == 0, done.stderr
    figures = summary(segmentation)["student"]["validation"]
    assert f"val/miou: {figures['miou']:.4f}" in done.stdout
    smaller = command("evaluate", checkpoint, "split=val", "window=[16,16]", "trainer=cpu")
    assert smaller.returncode == 0, smaller.stderr
    assert "val/miou" in smaller.stdout


def test_evaluate_refuses_windows_for_a_classifier(command: Command, tmp_path: Path) -> None:
    checkpoint(tmp_path / "run", dataset={"_target_": "stkd_lightning.data.DigitsDataModule"})
    refused = command("evaluate", "checkpoint=run", "window=[64,64]")
    assert refused.returncode == 2
    assert (
        refused.stderr == "error: window: is for segmentation, but this student classifies whole images; leave it out\n"
    )


def test_predict_writes_masks(command: Command, segmentation: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(segmentation / "data" / "test" / "images", photos / "below")
    Image.open(photos / "below" / "1.png").save(photos / "other.jpg")
    (photos / "broken.png").write_bytes(b"no image")
    arguments = [f"checkpoint={segmentation / 'run'}", "images=photos", "device=cpu"]
    done = command("predict", *arguments, "output=photos/out")
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: 1 of 6 images: photos/broken.png: cannot be read")
    assert done.stderr.endswith("; the others are in photos/out\n")
    assert "classes in 5 images" in done.stdout
    assert "photos/out: masks/, overlays/ of 5 images, shares.csv" in done.stdout
    out = photos / "out"
    names = {str(path.relative_to(out)) for path in out.rglob("*.png")}
    assert names == {f"{kind}/{name}.png" for kind in ("masks", "overlays")
                     for name in ("other", *(f"below/{i}" for i in range(4)))}  # fmt: skip
    with Image.open(out / "masks" / "below" / "1.png") as mask:
        assert mask.size == (20, 30)
        values = np.asarray(mask)
    rows = list(csv.DictReader((out / "shares.csv").open(newline="")))
    assert len(rows) == 6
    (row,) = (row for row in rows if row["image"] == "photos/below/1.png")
    assert [float(row[name]) for name in CLASSES] == pytest.approx([(values == c).mean() for c in range(3)], abs=1e-6)

    again = command("predict", *arguments, "output=photos/out", "overlays=false", "window=[16,16]")  # not its own masks
    assert again.stderr.startswith("error: 1 of 6 images")
    assert len(list(csv.DictReader((out / "shares.csv").open(newline="")))) == 6
    printed = command("predict", f"checkpoint={segmentation / 'run'}", "images=photos/below", "device=cpu")
    assert printed.returncode == 0, printed.stderr
    assert "classes in 4 images" in printed.stdout


def test_predict_refuses_outputs_of_another_task(command: Command, segmentation: Path, tmp_path: Path) -> None:
    checkpoint(tmp_path / "classifier")
    images = f"images={segmentation / 'data' / 'test' / 'images' / '0.png'}"
    cases = [
        (segmentation / "run", "output=a.csv", "this student predicts masks; name a folder, such as output=predicted"),
        (tmp_path / "classifier", "output=a", "output=a: must be a file that ends in .csv or .json"),
        (tmp_path / "classifier", "window=[64,64]", "window: is for masks, but this student classifies whole images"),
        (segmentation / "run", "window=64", "window=64: must be height and width in pixels, such as [512,1024]"),
        (segmentation / "run", "overlays=some", "overlays=some: must be true or false"),
        (segmentation / "run", "output=a.png", "must be a file that ends in .csv or .json, or a folder for masks"),
    ]
    for path, option, words in cases:
        done = command("predict", f"checkpoint={path}", images, option, "device=cpu")
        assert done.returncode == 2, option
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "a").exists()


def test_masks_of_one_name_are_refused() -> None:
    images = [NamedImage(Path("photos") / name, Path(name)) for name in ("a.jpg", "b/a.jpg", "b/a.png")]
    assert mask_names(images[:2]) == [Path("a.png"), Path("b/a.png")]
    with pytest.raises(InputError, match="photos/b/a.jpg and photos/b/a.png would have one mask, b/a.png"):
        mask_names(images)


def test_export_of_segmentation_is_predicted_with(command: Command, segmentation: Path, tmp_path: Path) -> None:
    done = command("export", f"checkpoint={segmentation / 'run'}", "format=onnx", "output=exported")
    assert done.returncode == 0, done.stderr
    assert "compared with the checkpoint on 2 test images of image_mask_folder" in done.stdout
    content = json.loads((tmp_path / "exported" / "student.json").read_text())
    assert content["student"]["task_name"] == "segmentation"
    assert content["student"]["about"]["test_images"] == 4
    text = (tmp_path / "exported" / "README.md").read_text()
    test = summary(segmentation)["student"]["test"]["selected"]
    assert f"| {100 * test['miou']:.2f} | {100 * test['pixel_accuracy']:.2f} |" in text
    assert "| red square |" in text
    images = f"images={segmentation / 'data' / 'test' / 'images'}"
    for source in ("exported", segmentation / "run"):
        found = command("predict", f"checkpoint={source}", images, f"output=of_{Path(source).name}", "device=cpu")
        assert found.returncode == 0, found.stderr
    for i in range(4):
        one, other = (
            np.asarray(Image.open(tmp_path / f"of_{name}" / "masks" / f"{i}.png")) for name in ("exported", "run")
        )
        assert (one == other).mean() > 0.99  # rounding may turn a pixel


def test_int8_segmenter_is_measured_by_its_miou(command: Command, segmentation: Path, tmp_path: Path) -> None:
    """The images have two sizes, and the file takes others."""
    done = command(
        "export", f"checkpoint={segmentation / 'run'}", "format=onnx_int8", "output=exported", "max_drop=100"
    )
    assert done.returncode == 0, done.stderr
    assert "calibrated on 12 training images of image_mask_folder\nmIoU on 4 test images" in done.stdout
    found = json.loads((tmp_path / "exported" / "student.json").read_text())["quantization"]
    test = summary(segmentation)["student"]["test"]["selected"]
    assert found["float32"]["miou"] == pytest.approx(test["miou"], abs=1e-3)
    assert "| this file, quantized |" in (tmp_path / "exported" / "README.md").read_text()
    exported, student = load_student(tmp_path / "exported"), load_student(segmentation / "run")
    images = torch.randn(3, 3, 43, 61)
    assert (exported(images).argmax(1) == student(images).argmax(1)).float().mean() > 0.9


def test_report_of_a_segmentation_run(command: Command, segmentation: Path, tmp_path: Path) -> None:
    done = command("report", f"runs={segmentation / 'run'}", "output=page")
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stdout
    html = (tmp_path / "page" / "report.html").read_text()
    for words in (
        "IoU of each class",
        "Category similarities",
        "Masks",
        "validation mIoU",
        "<button>image IoU</button>",
    ):
        assert words in html, words
    line, *_ = csv.DictReader((tmp_path / "page" / "report.csv").open(newline=""))
    assert float(line["latency_ms"]) > 0
    assert line["student"] == "DilatedResNet-w4"


def test_cache_describes_images_with_masks(segmentation: Path, cache: Path) -> None:
    described = {entry.about for entry in find_entries(cache)}
    assert "12 train + 6 val + 4 test images 24x32, 3 classes" in described
    assert {about.partition(",")[0] for about in described} >= {
        "teacher: DilatedResNet-w8 on image_mask_folder",
        "baseline: DilatedResNet-w4 on image_mask_folder",
    }
