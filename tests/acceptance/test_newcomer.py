"""The README's way from folders of images to a deployed student: sweep, report, export, predictions."""

import csv
import json
import re
import shlex
from pathlib import Path

import onnx
from PIL import Image
from sklearn.datasets import load_digits

from stkd_lightning.data.class_folders import hold_out_files, list_folder
from tests.conftest import Command

README = (Path(__file__).parents[2] / "README.md").read_text()
SHORTER = {"train": ["trainer.max_epochs=4", "seed=0", "teacher.min_accuracy=0", "logger=csv", "trainer=cpu"]}


def steps() -> list[list[str]]:
    """Return the commands of the section, without ``python -m``."""
    (block,) = re.findall(r"## From your images to a deployed student\n.*?```sh\n(.*?)```", README, re.DOTALL)
    lines = block.replace("\\\n", " ").splitlines()
    return [shlex.split(line.split("#")[0].removeprefix("python -m stkd_lightning.")) for line in lines]


def test_from_images_to_a_deployed_student(command: Command, tmp_path: Path) -> None:
    digits = load_digits()
    for i, (pixels, label) in enumerate(zip(digits.images[:600], digits.target[:600], strict=True)):
        folder = tmp_path / "photos" / f"digit {label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15).astype("uint8")).resize((16 + i % 3, 16 + i % 2)).save(folder / f"{i}.png")
    assert [name for name, *_ in steps()] == ["train", "report", "export", "predict"]
    for name, *arguments in steps():
        if name == "train":
            arguments = [a for a in arguments if not a.startswith("seed=")]  # one seed: the students lie in 0, 1, 2
        arguments = [re.sub(r"multirun/photos/\d+", "multirun/photos/2", a) for a in arguments]
        done = command(name, *arguments, *SHORTER.get(name, []), timeout=600)
        assert done.returncode == 0, done.stderr

    report = (tmp_path / "report" / "report.html").read_text()
    assert "With one seed, a difference may be chance" in report
    exported = onnx.load(tmp_path / "student" / "model.onnx", load_external_data=False)
    assert {p.key for p in exported.metadata_props} >= {"class_names", "mean", "std"}
    with (tmp_path / "predictions.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 600
    photos = tmp_path / "photos"
    names = sorted(folder.name for folder in photos.iterdir())
    test = set(hold_out_files(list_folder(photos, names), photos, 0.1, 0)[1].paths)
    tested = [line for line in lines if tmp_path / line["image"] in test]
    right = [line["class_1"] == Path(line["image"]).parent.name for line in tested]
    assert 55 <= len(right) <= 65
    summary = json.loads((tmp_path / "multirun" / "photos" / "2" / "summary.json").read_text())
    accuracy = summary["student"]["test"]["selected"]["accuracy"]
    assert summary["loss"] == "stkd"
    assert abs(sum(right) / len(right) - accuracy) < 1e-6
