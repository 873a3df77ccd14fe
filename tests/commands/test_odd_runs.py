"""Reports of runs that somebody else made, or that are not all here."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stkd_lightning.commands.report import complete_diagnostics, write_report
from stkd_lightning.reporting.run import read_run
from tests.reporting.runs import run, written

DIGITS = {"_target_": "stkd_lightning.data.DigitsDataModule"}
CIFAR = {"_target_": "stkd_lightning.data.CIFAR100DataModule", "data_dir": "data", "download": True}
RESNET = {"_target_": "stkd_lightning.models.create_model", "name": "resnet8", "num_classes": 4}
CONFIGS: list[dict[str, Any]] = [
    {},
    {"dataset": "text", "student": "text", "teacher": {"network": "text"}},
    {"dataset": {"_target_": "numpy.save", "file": "pwned.npy", "arr": [1]}, "student": {"_target_": "os.abort"}},
    {"dataset": {**CIFAR, "url": "http://127.0.0.1:9/x", "md5": "0"}, "student": RESNET},
    {"dataset": {**DIGITS, "unheard_of": 1}, "student": {**RESNET, "unheard_of": 1}},
    {"dataset": DIGITS, "student": {**RESNET, "name": "resnet9000"}},
]


@pytest.mark.parametrize("config", CONFIGS)
def test_odd_runs_leave_out_what_cannot_be_made(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    one = written(run("kd", 0, 0.5), tmp_path / "odd")
    (tmp_path / "odd" / "diagnostics.npz").write_bytes(b"damaged")
    (tmp_path / "odd" / "config.yaml").write_text(json.dumps(config))
    write_report([read_run(tmp_path / "odd")], tmp_path / "page", "kd", trust=False, cache_dir=str(tmp_path / "cache"))
    said = " ".join(capsys.readouterr().out.split())
    assert "some figures are missing" in said
    assert one.student in (tmp_path / "page" / "report.html").read_text()
    there = {p.name for p in tmp_path.iterdir()}
    assert there <= {"odd", "page", "cache"}
    assert "time not measured" in said or config.get("student") in (None, RESNET)


def test_a_network_of_the_project_is_measured(tmp_path: Path) -> None:
    one = run("kd", 0, 0.5)
    data = replace(one.summary.data, mean=(0.5,) * 3, std=(0.2,) * 3)
    one = replace(one, summary=replace(one.summary, data=data))
    one.config["student"] = RESNET
    folder = written(one, tmp_path / "one").folder
    assert folder is not None
    write_report([read_run(folder)], tmp_path / "page", "kd", trust=False)
    assert ",100,2000,0." in (tmp_path / "page" / "report.csv").read_text()


def test_one_fault_of_many_runs_is_one_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [written(run("kd", seed, 0.5), tmp_path / str(seed)) for seed in range(3)]
    for one in runs:
        assert one.folder is not None
        (one.folder / "diagnostics.npz").unlink()
        one.config["dataset"] = {"_target_": "os.abort"}
    complete_diagnostics(runs, trust=False)
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("warning") == 1
    assert "0 and 2 more: some figures are missing (checkpoint config.yaml: wants to build os.abort" in said
