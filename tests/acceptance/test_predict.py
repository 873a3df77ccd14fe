"""A student is shown a user's files."""

import csv
import json
import os
from pathlib import Path

import pytest

from stkd_lightning import load_student
from stkd_lightning.commands.config.checks import check
from stkd_lightning.commands.config.compose import composed, composing
from stkd_lightning.commands.predict import predict
from stkd_lightning.inference.export_folder import write_facts
from stkd_lightning.inference.formats import ONNX
from stkd_lightning.inference.predict import Prediction
from stkd_lightning.inference.prediction_file import prediction_file
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.files import atomic_folder
from tests.conftest import Command
from tests.data.conftest import picture
from tests.inference.students import checkpoint


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """70 pictures and two broken ones, a text and a pipe."""
    folder = tmp_path / "photos"
    for i in range(70):
        picture(folder / ("below" if i % 2 else ".") / f"{i:02d}[b].png", (8 + i % 3, 8))
    (folder / "03.jpg").write_bytes(b"\xff\xd8\xff broken")
    (folder / "below" / "empty.png").touch()
    (folder / "notes.txt").touch()
    os.mkfifo(folder / "pipe.png")
    return folder


def test_a_folder_with_broken_images(command: Command, photos: Path, tmp_path: Path) -> None:
    path, _ = checkpoint(tmp_path / "run")
    done = command(
        "predict", "checkpoint=run", "images=[photos,photos/pipe.png]", "output=found/all.csv", "top=2", "batch_size=16"
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: 3 of 73 images: photos/03.jpg: cannot be read")
    assert "photos/below/empty.png: cannot be read" in done.stderr
    assert "photos/pipe.png: cannot be read (not a regular file)" in done.stderr
    assert done.stderr.endswith("; the others are in found/all.csv\n")
    assert "photos: files not read: .txt 1, no regular file 1" in done.stdout
    assert "the first 10 of 70 images" in done.stdout
    assert "photos/00[b].png" in done.stdout
    with (tmp_path / "found" / "all.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 73
    assert [r["image"] for r in rows if r["error"]] == ["photos/03.jpg", "photos/below/empty.png", "photos/pipe.png"]
    good = [r for r in rows if not r["error"]]
    student = load_student(path)
    for row, expected in zip(good, student.predict([tmp_path / r["image"] for r in good], top=2), strict=True):
        assert (row["class_1"], row["class_2"]) == expected.classes
        assert float(row["probability_1"]) == pytest.approx(expected.probabilities[0], abs=2e-6)
    assert [p.name for p in (tmp_path / "found").iterdir()] == ["all.csv"]

    one = ONNX()
    with atomic_folder(tmp_path / "exported") as folder:
        one.write(student, folder / one.file)
        write_facts(folder, one, student.facts, {})
    for path in photos.rglob("*"):
        if path.name in ("03.jpg", "empty.png"):
            path.unlink()
    done = command("predict", "checkpoint=exported", "images=[photos/below,'photos/00[b].png']", "output=all.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "all.json").read_text())
    assert [row["image"] for row in found][-2:] == ["photos/below/69[b].png", "photos/00[b].png"]
    assert len(found) == 36
    by_image = {r["image"]: r for r in good}
    for row in found:
        assert row["classes"][0]["name"] == by_image[row["image"]]["class_1"]
        assert row["classes"][0]["probability"] == pytest.approx(
            float(by_image[row["image"]]["probability_1"]), abs=1e-5
        )
        assert len(row["classes"]) == 5


def test_a_table_of_predictions_holds_no_formulas(tmp_path: Path) -> None:
    results = [Prediction(Path("=1.png"), ("@a", "-1"), (0.75, 0.25)), InputError("-x.png: cannot be read")]
    with prediction_file(tmp_path / "all.csv", 2) as write:
        for result in results:
            write(Path("=1.png"), result)
    rows = (tmp_path / "all.csv").read_text().splitlines()[1:]
    assert rows == ["'=1.png,,'@a,0.750000,-1,0.250000", "'=1.png,'-x.png: cannot be read,,,,"]


MISTAKES = [
    (["images=nowhere"], "images=nowhere: no such file or folder"),
    (["images=[photos,nowhere]"], "images=nowhere: no such file or folder"),
    (["images=3"], "images=3: must be the name of a file or folder"),
    (["images=empty"], "images=empty: contains no image"),
    (["images=photos", "top=0"], "top=0: must be a whole number of at least 1"),
    (["images=photos", "output=out.txt"], "output=out.txt: must be a file that ends in .csv or .json"),
    (["images=photos", "output=run.csv/out.csv"], "cannot be made"),
    (["images=photos", "device=gpu"], "device 'gpu': unknown; did you mean cpu? all: auto, cpu, cuda, mps"),
    (["images=photos", "checkpoint=empty"], "checkpoint empty: a folder without checkpoints/best.ckpt"),
]


@pytest.mark.parametrize(("overrides", "words"), MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_mistakes(overrides: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "run.csv").touch()
    picture(tmp_path / "photos" / "1.png")

    def run() -> None:
        with composing():
            config = composed("predict", ["checkpoint=run", *overrides])
        check(config)
        predict(config)

    with pytest.raises(InputError) as caught:
        run()
    assert words in str(caught.value)
