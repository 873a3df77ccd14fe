"""A run, a sweep or a file names a student."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from stkd_lightning import load_student
from stkd_lightning.commands.chosen_run import student_path
from stkd_lightning.commands.config.checks import check
from stkd_lightning.commands.config.compose import composed, composing
from stkd_lightning.commands.export import export
from stkd_lightning.commands.report import report
from stkd_lightning.reporting.run import Run
from stkd_lightning.tasks import Score
from stkd_lightning.utilities.errors import InputError
from tests.inference.students import checkpoint
from tests.reporting.runs import run, written


def kept(one: Run, folder: Path) -> Path:
    """Write a run with a file in the place of its student."""
    written(one, folder)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "best.ckpt").touch()
    return folder


def test_student_of_a_sweep_is_that_of_its_best_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, validation in (("0", 0.5), ("1", 0.7), ("2", 0.6), ("3", None)):
        kept(run("kd", int(name), 0.9, validation=validation), tmp_path / name)
    written(run("kd", 9, 0.9, validation=0.9), tmp_path / "without a student")
    (tmp_path / "2" / "summary.json").write_text("{")
    assert student_path(tmp_path) == tmp_path / "1"
    assert "1: the best of 2 runs by accuracy on validation images, 70.0%" in capsys.readouterr().out.replace("\n", " ")
    assert student_path(tmp_path / "0") == tmp_path / "0"
    assert student_path(tmp_path / "0" / "summary.json") == tmp_path / "0"
    assert capsys.readouterr().out == ""


def test_best_run_may_have_the_lowest_score(tmp_path: Path) -> None:
    for name, error in (("0", 0.5), ("1", 0.3)):
        one = run("kd", int(name), 0.1)
        figures = {"last": {"error": error}, "selected": {"error": error}}
        student = replace(one.summary.student, test=figures, validation={"error": error})
        summary = replace(one.summary, student=student, teacher=None, score=Score("error", higher=False))
        kept(Run(summary, one.config), tmp_path / name)
    assert student_path(tmp_path) == tmp_path / "1"


def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    kept(run("kd", 0, 0.5, validation=None), tmp_path / "a" / "0")
    with pytest.raises(InputError, match=r"checkpoint=\S*/a: no run in it has a student and validation images"):
        student_path(tmp_path / "a")
    for name in ("x", "y"):
        kept(run("kd", 0, 0.5, data=name), tmp_path / "b" / name)
    with pytest.raises(InputError, match=r"checkpoint=\S*/b: holds runs on several data sets"):
        student_path(tmp_path / "b")
    (tmp_path / "c").mkdir()
    assert student_path(tmp_path / "c") == tmp_path / "c"  # whose mistake the loading names


@pytest.mark.parametrize(
    ("name", "folder"), [("run", "run/exported"), ("run/checkpoints/best.ckpt", "run/exported"), ("a.ckpt", "exported")]
)
def test_an_export_is_written_beside_the_student(name: str, folder: str, tmp_path: Path) -> None:
    path, _ = checkpoint(tmp_path / "run")
    (tmp_path / "a.ckpt").write_bytes(path.read_bytes())
    with composing():
        config = composed("export", [f"checkpoint={tmp_path / name}"])
    check(config)
    export(config)
    files = sorted(p.name for p in (tmp_path / folder).iterdir())
    assert files == ["README.md", "model.safetensors", "student.json"]
    for place in (tmp_path / folder, *(tmp_path / folder / file for file in files[1:])):
        assert load_student(place).class_names == tuple("0123456789")
    config.checkpoint = str(tmp_path / folder)
    with pytest.raises(InputError, match="output: name a folder, since"):
        export(config)


def test_report_takes_a_file_of_a_run(tmp_path: Path) -> None:
    kept(run("kd", 0, 0.5), tmp_path / "0")
    kept(run("kd", 1, 0.5), tmp_path / "1")
    for name in ("0/summary.json", "0/checkpoints/best.ckpt"):
        with composing():
            config = composed("report", [f"runs={tmp_path / name}", "latency=false", "complete=false"])
        check(config)
        report(config)
        assert "1 run in 1 setting" in (tmp_path / "0" / "report.html").read_text()
    assert not (tmp_path / "1" / "report.html").exists()
    assert json.loads((tmp_path / "0" / "summary.json").read_text())["seed"] == 0
