"""The commands on a finished tagging run: evaluate, predict, export and report."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from sklearn.metrics import average_precision_score

from stkd_lightning import load_student
from stkd_lightning.commands.cache_entries import find_entries
from stkd_lightning.inference.tagging_student import TaggingStudent
from stkd_lightning.reporting.run import read_run
from stkd_lightning.reporting.tagging_diagnostics import TaggingDiagnostics
from stkd_lightning.utilities.errors import InputError
from tests.conftest import Command
from tests.data.sounds import RATE, tones
from tests.tagging import TAGS


def summary(tagging: Path) -> dict[str, Any]:
    return json.loads((tagging / "run" / "summary.json").read_text())


def test_tagging_run_has_figures_of_all_kinds(tagging: Path) -> None:
    found = summary(tagging)
    assert found["score"] == {"name": "micro_auprc", "higher": True, "unit": "%"}
    assert {"micro_auprc", "macro_auprc", "micro_auprc_trapezoidal", "f1", "ap/low"} <= set(
        found["student"]["test"]["last"]
    )
    assert found["data"]["sample_rate"] == RATE
    diagnostics = read_run(tagging / "run").diagnostics_of(TaggingDiagnostics)
    assert diagnostics is not None
    assert diagnostics.has_teacher
    assert (diagnostics.images, len(diagnostics.shown), diagnostics.num_classes) == (8, 6, 3)
    assert diagnostics.student_frames.shape == (6, 3, 64)
    assert diagnostics.student_similarity.shape[0] > 10


def test_evaluate_prints_and_draws_tags(command: Command, tagging: Path, tmp_path: Path) -> None:
    done = command("evaluate", f"checkpoint={tagging / 'run'}", "figures=figures", "output=metrics.json", "trainer=cpu")
    assert done.returncode == 0, done.stderr
    test = summary(tagging)["student"]["test"]["selected"]
    assert f"test/micro_auprc: {test['micro_auprc']:.4f}" in done.stdout
    assert "average precision, %" in done.stdout
    for name in TAGS:
        assert re.search(rf"{name} +{100 * test[f'ap/{name}']:.2f}", done.stdout), done.stdout
    assert "figures: class_ap.png, precision_recall.png, frame_similarity.png, clips.png" in done.stdout
    with Image.open(tmp_path / "figures" / "clips.png") as picture:
        assert picture.width == 1000
    assert json.loads((tmp_path / "metrics.json").read_text())["micro_auprc"] == pytest.approx(test["micro_auprc"])


def test_predict_writes_tags(command: Command, tagging: Path, tmp_path: Path) -> None:
    """Files of any rate and length, one of them broken, in a folder with others."""
    shutil.copytree(tagging / "data" / "test", tmp_path / "sounds" / "below")
    soundfile.write(tmp_path / "sounds" / "long.flac", tones(["low", "high"], 2.0, 5, 44100), 44100)
    (tmp_path / "sounds" / "broken.wav").write_bytes(b"no sound")
    (tmp_path / "sounds" / "notes.txt").write_text("x")
    arguments = [f"checkpoint={tagging / 'run'}", "images=sounds", "device=cpu"]
    done = command("predict", *arguments, "output=tags.csv")
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: 1 of 10 clips: sounds/broken.wav: cannot be read")
    assert "sounds: files not read: .txt 1" in done.stdout
    rows = list(csv.DictReader((tmp_path / "tags.csv").open(newline="")))
    assert list(rows[0]) == ["file", "error", *TAGS]
    assert len(rows) == 10
    student = load_student(tagging / "run")
    assert isinstance(student, TaggingStudent)
    for row in rows:
        if not row["error"]:
            (expected,) = student.predict(tmp_path / row["file"])
            assert [float(row[tag]) for tag in TAGS] == pytest.approx(expected.probabilities.tolist(), abs=1e-5)
    framed = command("predict", *arguments[:1], "images=sounds/long.flac", "output=tags.json", "frames=true", "top=1")
    assert framed.returncode == 0, framed.stderr
    (found,) = json.loads((tmp_path / "tags.json").read_text())
    assert found["seconds"] == pytest.approx(2.0, abs=0.01)
    assert set(found["frames"]) == set(TAGS)
    assert len(found["frames"]["low"]) > 100


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["output=tags"], "output=tags: must be a file that ends in .csv or .json"),
        (["frames=true", "output=tags.csv"], "frames=true: frames do not fit into tags.csv; name a .json file"),
        (["frames=true", "output=null"], "frames=true: frames are not printed; name a file"),
        (["window=[64,64]"], "window: is for masks"),
        (["images=empty"], "images=empty: contains no sound file"),
    ],
)
def test_predict_refuses_what_does_not_fit(
    options: list[str], words: str, command: Command, tagging: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    images = [] if options[0].startswith("images") else [f"images={tagging / 'data' / 'test' / '0.wav'}"]
    done = command("predict", f"checkpoint={tagging / 'run'}", *images, *options, "device=cpu")
    assert done.returncode == 2, done.stdout
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("front_end", ["inside", "outside"])
def test_exported_tagger_is_predicted_with(front_end: str, command: Command, tagging: Path, tmp_path: Path) -> None:
    """With the front end in the file and before it; both take clips of any length."""
    done = command(
        "export", f"checkpoint={tagging / 'run'}", "format=onnx", "output=exported", f"front_end={front_end}"
    )
    assert done.returncode == 0, done.stderr
    assert "compared with the checkpoint on 8 test clips of audio_folder" in done.stdout
    content = json.loads((tmp_path / "exported" / "student.json").read_text())
    assert (content["student"]["sample_rate"], content["student"]["outside"]) == (RATE, front_end == "outside")
    text = (tmp_path / "exported" / "README.md").read_text()
    assert "| average precision, % |" in text
    assert ("then the front end LogMel" in text) == (front_end == "outside")
    assert ("# spectrograms (batch, 1, frames, bands)" in text) == (front_end == "outside")
    assert "(B, 3, H, W)" not in text
    assert "Test clips of" in text
    exported, student = load_student(tmp_path / "exported", trust=True), load_student(tagging / "run")
    for seconds in (0.3, 1.7):
        clip = torch.from_numpy(tones(["low"], seconds, 3))[None]
        torch.testing.assert_close(exported(clip), student(clip), rtol=1e-4, atol=1e-4)
    arguments = ["checkpoint=exported", f"images={tagging / 'data' / 'test'}", "device=cpu"]
    found = command("predict", *arguments, "trust=true")
    assert found.returncode == 0, found.stderr
    none = command("predict", *arguments, "output=a.json", "frames=true")
    assert (none.returncode, "others give no frames" in none.stderr) == (2, True)


def test_int8_tagger_begins_behind_its_front_end(command: Command, tagging: Path, tmp_path: Path) -> None:
    arguments = [f"checkpoint={tagging / 'run'}", "format=onnx_int8", "output=exported", "max_drop=100"]
    inside = command("export", *arguments)
    assert inside.returncode == 2, inside.stdout
    assert inside.stderr.count("\n") == 1
    assert "front_end=inside: format=onnx_int8 loses too much of spectra in 8 bits; set front_end=out" in inside.stderr
    done = command("export", *arguments, "front_end=outside")
    assert done.returncode == 0, done.stderr
    assert "calibrated on 32 training clips of audio_folder" in done.stdout
    found = json.loads((tmp_path / "exported" / "student.json").read_text())["quantization"]
    exported, student = load_student(tmp_path / "exported"), load_student(tagging / "run")
    with (tagging / "data" / "labels.csv").open(newline="") as file:
        tags = {row["file"]: row["tags"] for row in csv.DictReader(file) if row["split"] == "test"}
    labels = np.array([[tag in present for tag in TAGS] for present in tags.values()])
    for name, network in (("float32", student), ("quantized", exported)):  # clips as they are, without padding
        logits = torch.cat([network(student.preprocess(tagging / "data" / clip)) for clip in tags])
        expected = average_precision_score(labels.ravel(), logits.numpy().ravel())
        assert found[name]["micro_auprc"] == pytest.approx(expected, abs=1e-5)
    for seconds in (0.3, 1.7):
        clip = torch.from_numpy(tones(["low"], seconds, 3))[None]
        torch.testing.assert_close(exported(clip), student(clip), rtol=0.2, atol=0.2)


def test_settings_of_an_export_choose_no_code(command: Command, tagging: Path, tmp_path: Path) -> None:
    done = command("export", f"checkpoint={tagging / 'run'}", "format=onnx", "output=exported", "front_end=outside")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "exported" / "student.json"
    whole = json.loads(path.read_text())
    for change, words in (
        ({"_target_": "builtins.print", "_args_": ["ran"]}, "this student has no front end of its own"),
        ({"mels": {"_target_": "builtins.print", "_args_": ["ran"]}}, "front_end.mels=.*: must be a number"),
        ({"n_fft": 10**6}, "front_end.n_fft=1000000: must be"),
        ({"gain": 3}, "front_end: has no setting 'gain'"),
    ):
        content = json.loads(json.dumps(whole))
        content["student"]["network"]["front_end"] |= change
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match=words):
            load_student(tmp_path / "exported")


def test_weights_alone_have_their_front_end(command: Command, tagging: Path) -> None:
    done = command(
        "export", f"checkpoint={tagging / 'run'}", "format=safetensors", "front_end=outside", "output=exported"
    )
    assert done.returncode == 2
    assert "front_end=outside: format=safetensors holds weights" in done.stderr
    odd = command("export", f"checkpoint={tagging / 'run'}", "front_end=beside", "output=exported")
    assert odd.returncode == 2
    assert "front_end 'beside': unknown; did you mean inside or outside" in odd.stderr


def test_report_of_a_tagging_run(command: Command, tagging: Path, tmp_path: Path) -> None:
    done = command("report", f"runs={tagging / 'run'}", "output=page")
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stdout
    html = (tmp_path / "page" / "report.html").read_text()
    for words in ("Average precision of each tag", "Precision and recall", "Similarities between frames", "Clips"):
        assert words in html, words
    line, *_ = csv.DictReader((tmp_path / "page" / "report.csv").open(newline=""))
    assert float(line["latency_ms"]) > 0


def test_cache_describes_clips(tagging: Path, cache: Path) -> None:
    described = {entry.about for entry in find_entries(cache)}
    assert "32 train + 8 val + 8 test clips of 0.3 to 0.5 s, 3 tags" in described
    assert {about.partition(",")[0] for about in described} >= {"teacher: cnn-w4 on audio_folder"}


def test_clips_are_read_together_only_if_they_are_equal(tagging: Path) -> None:
    student = load_student(tagging / "run")
    paths = [tagging / "data" / "test" / f"{i}.wav" for i in range(3)]
    assert student.preprocess([paths[0], paths[2]]).shape == (2, 4000)
    with pytest.raises(InputError, match="have unequal lengths; read them one by one"):
        student.preprocess(paths)
    assert np.isfinite(student(student.preprocess(paths[0])).numpy()).all()
