"""What ``evaluate`` says of a classifier's classes and images."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stkd_lightning.data.datasets.digits import DigitsDataModule
from stkd_lightning.models.feature_hooks import logits_of
from tests.conftest import Command
from tests.inference.students import checkpoint

FIGURES = ["calibration.png", "class_accuracy.png", "classes.csv", "confusion.csv", "confusion.png", "mistakes.csv",
           "mistakes.png"]  # fmt: skip


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_evaluate_writes_classes_and_mistakes(command: Command, tmp_path: Path, cache: Path) -> None:
    """Compared with a loop over the images, one by one."""
    data = DigitsDataModule()
    dataset = {"_target_": "stkd_lightning.data.DigitsDataModule"}
    _, student = checkpoint(tmp_path / "run", dataset=dataset, mean=list(data.mean), std=list(data.std))
    done = command("evaluate", "checkpoint=run", "figures=figures", "output=results.json", "trainer=cpu")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == FIGURES
    matrix, wrong = np.zeros((10, 10), int), []
    with torch.no_grad():
        for batch in data.test_dataloader():
            for image, label, index in zip(batch.images, batch.labels.tolist(), batch.indices.tolist(), strict=True):
                shares = logits_of(student(image[None]))[0].double().softmax(0)
                matrix[label, int(shares.argmax())] += 1
                if label != int(shares.argmax()):
                    wrong.append((index, label, int(shares.argmax()), float(shares.max())))
    confusion = rows(tmp_path / "figures" / "confusion.csv")
    assert [[int(row[str(c)]) for c in range(10)] for row in confusion] == matrix.tolist()
    listed = [
        (int(r["image"]), int(r["class"]), int(r["predicted"]), float(r["probability"]))
        for r in rows(tmp_path / "figures" / "mistakes.csv")
    ]
    assert sorted(r[:3] for r in listed) == sorted(r[:3] for r in wrong)
    probabilities = [r[3] for r in listed]
    assert probabilities == sorted(probabilities, reverse=True)
    assert probabilities[0] == pytest.approx(max(r[3] for r in wrong), abs=1e-4)
    results = json.loads((tmp_path / "results.json").read_text())
    for c, row in enumerate(results["classes"]):
        assert (row["class"], row["images"], row["correct"]) == (str(c), matrix[c].sum(), matrix[c, c])
        assert row["accuracy"] == pytest.approx(matrix[c, c] / matrix[c].sum())
        assert (row["precision"] is None) == (matrix[:, c].sum() == 0)
    pairs = {(int(p["class"]), int(p["predicted"])): p["images"] for p in results["confused"]}
    assert pairs == {(a, b): matrix[a, b] for a in range(10) for b in range(10) if a != b and matrix[a, b]}
    worst = min(range(10), key=lambda c: (matrix[c, c] / matrix[c].sum(), -matrix[c].sum()))
    assert "the 5 classes of the lowest accuracy, of 10" in done.stdout
    table = done.stdout.partition("most often taken for")[2].splitlines()
    assert table[2].split()[:3] == [str(worst), f"{100 * matrix[worst, worst] / matrix[worst].sum():.2f}",
                                    str(matrix[worst].sum())]  # fmt: skip


@pytest.mark.parametrize("storage", ["prepared", "streamed"])
def test_evaluate_names_files_of_wrong_photographs(storage: str, command: Command, tmp_path: Path) -> None:
    """A class has no test image, photographs are unequal, and the network sees rectangles."""
    names = ["=1+1", "<b>cat<", "empty", *"abcdefg"]
    random = np.random.default_rng(0)
    for split, number in (("train", 4), ("test", 7)):
        for name in names[: 10 if split == "train" else 2]:
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(number):
                pixels = random.integers(256, size=(20 + i, 30 - i, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"photo, {i}.png")
    (tmp_path / "photos" / "test" / names[0] / "broken.png").write_bytes(b"no image")
    dataset = {"_target_": "stkd_lightning.data.ImageFolderDataModule", "data_dir": "photos", "image_size": [12, 16],
               "storage": storage, "on_error": "skip"}  # fmt: skip
    names = sorted(names)
    checkpoint(tmp_path / "run", size=12, dataset=dataset, class_names=names)
    done = command("evaluate", "checkpoint=run", "figures=figures", "output=results.json", "trainer=cpu")
    assert done.returncode == 0, done.stderr
    assert "no image of class a, b, c, d, e and 3 more" in done.stdout
    assert done.stdout.count("files not read") <= 1
    classes = {row["class"]: row for row in json.loads((tmp_path / "results.json").read_text())["classes"]}
    assert (classes["empty"]["images"], classes["empty"]["accuracy"]) == (0, None)
    wrong = rows(tmp_path / "figures" / "mistakes.csv")
    assert wrong
    for row in wrong:
        path = tmp_path / "photos" / row["file"]
        assert path.is_file()
        assert path.parent.name == row["class"].removeprefix("'")
    assert rows(tmp_path / "figures" / "classes.csv")[names.index("empty")]["accuracy"] == ""


def test_evaluate_without_a_mistake_says_so(command: Command, tmp_path: Path) -> None:
    """A network that says the class that all test images have."""
    for split, names in (("train", "abcdefghij"), ("test", "a")):
        for name in names:
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(3):
                noise = np.random.default_rng(i).integers(256, size=(8, 8, 3), dtype=np.uint8)
                Image.fromarray(noise).save(folder / f"{i}.png")
    dataset = {"_target_": "stkd_lightning.data.ImageFolderDataModule", "data_dir": "photos", "image_size": 8}
    path, _ = checkpoint(tmp_path / "run", dataset=dataset, class_names=list("abcdefghij"))
    content = torch.load(path, weights_only=True)
    head = content["state_dict"]
    head["student.fc.weight"].zero_()
    head["student.fc.bias"][:] = torch.tensor([1.0, *[0.0] * 9])
    torch.save(content, path)
    done = command("evaluate", "checkpoint=run", "figures=figures", "trainer=cpu")
    assert done.returncode == 0, done.stderr
    assert "no image is classified wrong" in done.stdout
    assert "no image of class b, c, d, e, f and 4 more" in done.stdout
    assert not (tmp_path / "figures" / "mistakes.png").exists()
    assert rows(tmp_path / "figures" / "mistakes.csv") == []


@pytest.mark.parametrize(("option", "words"), [
    ("with_teacher=true", "error: with_teacher=true: "),
    ("with_teacher=maybe", "error: with_teacher=maybe: must be auto, true or false"),
])  # fmt: skip
def test_evaluate_refuses_a_teacher_that_is_missing(option: str, words: str, command: Command, tmp_path: Path) -> None:
    checkpoint(tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    done = command("evaluate", "checkpoint=run", option, "trainer=cpu")
    assert done.returncode == 2
    assert done.stderr.startswith(words), done.stderr
    assert done.stderr.count("\n") == 1
