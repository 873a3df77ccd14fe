"""The README and the pages in docs/ show the tables that the results give."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
ACCURACIES = [f"accuracy_{path.stem}" for path in sorted((BENCHMARKS / "tables").glob("*.yaml"))]
SHOWN = {
    "README.md": ["accuracy_A", "throughput_cpu_64_brief"],
    "docs/export.md": ["latency_cpu"],
    "docs/performance.md": ["throughput_cpu_64"],
    "docs/results.md": ACCURACIES,
    "docs/resume-and-devices.md": ["soak_cpu"],
}


def test_documents_show_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import documents

    found = {path.relative_to(ROOT).as_posix(): documents.blocks(path) for path in documents.documents()}
    assert {name: list(blocks) for name, blocks in found.items() if blocks} == SHOWN
    for blocks in found.values():
        for name, text in blocks.items():
            assert text == documents.content(name), "python benchmarks/documents.py"


def test_brief_throughput_has_four_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import throughput

    pairs = json.loads((BENCHMARKS / "results" / "throughput_cpu_64.json").read_text())["pairs"]
    _, _, *rows = throughput.brief_table(pairs).splitlines()
    assert len(rows) == 4
    for row in rows:
        name, *cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert [float(cell.split()[0].replace(",", "")) for cell in cells] == [
            round(results[name]["images_per_second"]) for results in pairs.values()
        ]


def test_soak_results_are_identical_runs() -> None:
    trials = json.loads((BENCHMARKS / "results" / "soak_cpu.json").read_text())["trials"]
    assert sum(trial["exit_code"] != 0 for trial in trials) >= 40
    assert all(not trial["differences"] for trial in trials)


def test_one_command_writes_all_documents(tmp_path: Path) -> None:
    """In a copy: stale tables are written anew, a block without an end and other text stay."""
    shutil.copytree(BENCHMARKS, tmp_path / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "docs").mkdir()
    for name in SHOWN:
        shutil.copy(ROOT / name, tmp_path / name)
    readme = (ROOT / "README.md").read_text()
    (tmp_path / "README.md").write_text(readme.replace("| KD | 3 |", "| KD | 4 |") + "<!-- soak_cpu -->\nno end\n")
    results = tmp_path / "docs" / "results.md"
    results.write_text(results.read_text().replace("| KD | 3 |", "| KD | 4 |"))
    subprocess.run([sys.executable, "benchmarks/documents.py"], cwd=tmp_path, check=True, timeout=120)
    assert (tmp_path / "README.md").read_text() == readme + "<!-- soak_cpu -->\nno end\n"
    for name in SHOWN:
        if name != "README.md":
            assert (tmp_path / name).read_text() == (ROOT / name).read_text()
