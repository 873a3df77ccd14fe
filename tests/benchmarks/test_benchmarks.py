"""The benchmarks run and add up; what they measure is not asked here."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
CONTESTANTS = ["reference", "torchdistill", "plain Lightning", "ours", "ours, replay", "bare loop", "parts"]


def benchmark(name: str, tmp_path: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(FOLDER / name), *arguments, "--output", str(tmp_path / "out.json")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((tmp_path / "out.json").read_text())


@pytest.mark.slow
def test_throughput(tmp_path: Path) -> None:
    out, result = benchmark("throughput.py", tmp_path, "--pairs", "resnet14:resnet8", "--batch-size", "8",
                            "--rounds", "1", "--round-seconds", "0.1", "--eager",
                            "--only", *CONTESTANTS)  # fmt: skip
    (rows,) = result["pairs"].values()
    contestants = {name for name in rows if name != "shares"}
    assert contestants >= set(CONTESTANTS)
    for name in contestants:
        assert rows[name]["images_per_second"] > 0
        assert min(rows[name]["rounds"]) - 0.1 <= rows[name]["images_per_second"] <= max(rows[name]["rounds"]) + 0.1
        assert 0 < rows[name]["share_of_peak"] < 1
        ratio = rows[name]["images_per_second"] / rows["reference"]["images_per_second"]
        assert rows[name]["ratio"] == pytest.approx(ratio)
        assert f"| {name} |" in out or name == "parts"
    assert sum(rows["shares"].values()) == pytest.approx(1)
    assert {"hardware", "versions", "commit", "busy_percent"} <= result.keys()


@pytest.mark.slow
def test_framework(tmp_path: Path) -> None:
    _, result = benchmark("framework.py", tmp_path, "--rounds", "1", "--steps", "5")
    assert result["framework_ms"] == pytest.approx(result["ours_ms"] - result["bare_ms"])
    assert result["of_which_lightning_ms"] == pytest.approx(result["lightning_ms"] - result["bare_ms"])


@pytest.mark.slow
def test_scaling(tmp_path: Path) -> None:
    out, result = benchmark("scaling.py", tmp_path, "--batch-sizes", "4", "8", "--counts", "500", "2000",
                            "--ranks", "2", "--rounds", "1", "--batches", "2", "--images", "16",
                            "--photographs", "400")  # fmt: skip
    assert result["batch_size"].keys() == {"4", "8"}
    assert result["data"].keys() == {"500", "2000"}
    assert result["ranks"]["2"]["images_per_second"] > 0
    assert "2,000 images: opened in" in out
    assert result["photographs"].keys() == {"torchvision", "streamed", "prepared"}
    assert result["photographs"]["torchvision"]["ratio"] == 1
    assert result["photographs"]["prepared"]["disk_mib"] > result["photographs"]["streamed"]["disk_mib"]


@pytest.mark.slow
def test_methods(tmp_path: Path) -> None:
    out, result = benchmark("methods.py", tmp_path, "--pair", "resnet14", "resnet8", "--batch-size", "4",
                            "--methods", "kd", "sp", "simkd", "crd", "--rounds", "1")  # fmt: skip
    assert result["step"].keys() == {"kd", "sp", "simkd", "crd"}
    assert all(cost > 0 for cost in result["step"].values())
    assert [float(line.split()[1]) for line in out.splitlines()[-5:-1]] == sorted(
        round(cost, 2) for cost in result["step"].values()
    )


@pytest.mark.slow
def test_methods_of_segmentation(tmp_path: Path) -> None:
    _, result = benchmark("methods.py", tmp_path, "--task", "segmentation", "--batch-size", "2", "--rounds", "1")
    assert result["step"].keys() == {"cwd", "dsd", "dsd_cirkd", "ifvd", "pixel_kd", "skd", "spirit"}
    assert all(cost > 0 for cost in result["step"].values())


@pytest.mark.slow
def test_methods_of_tagging(tmp_path: Path) -> None:
    _, result = benchmark("methods.py", tmp_path, "--task", "tagging", "--batch-size", "2", "--rounds", "1")
    assert result["step"].keys() == {"iusp", "kd_iusp"}
    assert all(cost > 0 for cost in result["step"].values())


def test_methods_page_shows_their_costs() -> None:
    page = (FOLDER.parent / "docs" / "methods.md").read_text()
    shown = dict(re.findall(r"^\| `(\w+)` \|.*\| (\d\.\d\d) \|$", page, re.MULTILINE))
    files = "methods_cpu.json", "methods_segmentation_cpu.json", "methods_tagging_cpu.json"
    classifiers, segmentation, tagging = (json.loads((FOLDER / "results" / file).read_text())["step"] for file in files)
    costs = classifiers | segmentation | tagging
    assert segmentation["dsd"] <= 1.15
    assert shown == {name: f"{cost:.2f}" for name, cost in costs.items()}
    assert set(costs) == {p.stem for p in (FOLDER.parent / "conf" / "loss").glob("*.yaml")}


def test_readme_has_a_row_for_each_method() -> None:
    section = (FOLDER.parent / "README.md").read_text().split("## Methods")[1].split("\n## ")[0]
    cells = re.findall(r"^\| ((?:`\w+`,? )+)\|", section, re.MULTILINE)
    named = [name for cell in cells for name in re.findall(r"\w+", cell)]
    assert sorted(named) == sorted(p.stem for p in (FOLDER.parent / "conf" / "loss").glob("*.yaml"))


@pytest.mark.slow
def test_latency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, result = benchmark("latency.py", tmp_path, "--pairs", "resnet14:resnet8", "--batches", "1", "2",
                            "--rounds", "1", "--threads", "1")  # fmt: skip
    (ways,) = result["pairs"].values()
    assert {"torch", "torch.export"} <= ways.keys()
    for batches in ways.values():
        for one in batches.values():
            assert one["ratio"] == pytest.approx(one["student_ms"] / one["teacher_ms"])
    monkeypatch.syspath_prepend(str(FOLDER))
    import latency

    assert latency.table(result["pairs"]) in out
