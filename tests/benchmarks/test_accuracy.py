"""Tables of accuracies: run as a user runs them, killed, resumed, and written into the documents."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from itertools import combinations
from pathlib import Path

import pytest
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[2]
TABLE = """
title: A small one
reference: KD
seeds: [0, 1]
settings: [experiment=quickstart, baseline=false, teacher.max_epochs=4, teacher.min_accuracy=0, trainer.max_epochs=2]
parts:
  digits: {words: "Digits, resnet20 → resnet8", settings: [dataset=digits], published: {KD: 97.5}}
  folder: {words: Another, settings: [dataset=image_folder, dataset.train_folder=nowhere]}
rows:
  CE: [loss=ce]
  KD: [loss=kd]
  STKD: [loss=stkd, checkpoint_minutes=0.001]
"""


def test_tables_of_the_project_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import accuracy
    import tabulated

    from stkd_lightning.commands.config.checks import check
    from stkd_lightning.commands.config.compose import composed, composing

    for name in sorted(p.stem for p in (ROOT / "benchmarks" / "tables").glob("*.yaml")):
        table = tabulated.read_table(name)
        options = accuracy.OmegaConf.create(accuracy.OPTIONS)
        with composing():
            for job in accuracy.jobs(table, options):
                if job.seed == table.seeds[0]:
                    # A GPU and the teachers that a GPU trains are not everywhere.
                    elsewhere = ("trainer=gpu", "teacher.checkpoint=benchmarks/teachers/")
                    check(composed("train", [s for s in job.settings if not s.startswith(elsewhere)]))
        for record in tabulated.RESULTS.glob(f"{name}/*/*.json"):
            written = json.loads(record.read_text())
            run = (table, written["part"], written["row"], written["seed"])
            assert tabulated.record_file(*run) == record
            assert tabulated.record(*run) == written, f"{record} is of other settings than the table's"
            assert ("test" in written["student"]) != table.validation_only
        for part in table.parts:
            for one, other in combinations(tabulated.records(table, part), 2):
                assert not tabulated.apart(one, other), f"{name}, {part}: {one['settings']}, {other['settings']}"


@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_stkd_is_called_so_with_the_settings_it_has_by_default(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no figures of an earlier default stay under its name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import tabulated

    from stkd_lightning.commands.config.compose import composed, composing

    def settings(options: list[str]) -> dict[str, object]:
        content = OmegaConf.to_container(composed("train", options))
        assert isinstance(content, dict)
        return {str(k): v for k, v in content.items() if k != "hydra"}

    with composing():
        assert settings(tabulated.read_table(name).rows["STKD"]) == settings(["loss=stkd"])


@pytest.mark.parametrize(
    ("sp", "end"),
    [
        ([0.52, 0.53, 0.54], ": +100.0%"),
        ([0.40, 0.50, 0.61], ": not defined, since SP's gain is +0.33 ± 26.09 points"),
        ([0.52, 0.53], ": not run"),
        ([], ": not run"),
    ],
)
def test_a_gain_relative_to_another(sp: list[float], end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The student alone has 0.5, and IUSP 0.06 more; SP gains 0.03, or no one knows what."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import tabulated

    scores = {"CE": [0.5] * 3, "IUSP": [0.55, 0.56, 0.57], "SP": sp}
    found = [
        {"row": row, "seed": seed, "student": {"test": {"last": {"accuracy": value}}}}
        for row, values in scores.items()
        for seed, value in enumerate(values)
    ]
    text = tabulated.relative_gain(tabulated.read_table("K"), found)
    assert text == f"(IUSP's gain - SP's gain) / SP's gain over CE{end}"


def test_cells_of_several_seeds_have_a_deviation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import tabulated

    own = [{"student": {"validation": {"accuracy": value}}} for value in (0.5, 0.52)]
    assert tabulated._over_seeds(own[:1]) == "50.00"
    assert tabulated._over_seeds(own) == "51.00 ± 1.41 (2)"


def test_teachers_of_tables_for_a_cpu_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import tabulated

    for path in (ROOT / "benchmarks" / "tables").glob("*.yaml"):
        table = tabulated.read_table(path.stem)
        if "trainer=gpu" not in table.settings:
            named = [s.partition("=")[2] for s in table.settings if s.startswith("teacher.checkpoint=")]
            assert all((ROOT / name).is_file() for name in named), path


@pytest.mark.slow
def test_a_table_is_taken_up_where_it_was_killed(tmp_path: Path) -> None:
    """In a copy of the benchmarks with another table, README and page."""
    for path in (ROOT / "benchmarks").glob("*.py"):
        (tmp_path / "benchmarks").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "benchmarks")
    (tmp_path / "benchmarks" / "tables").mkdir()
    (tmp_path / "benchmarks" / "tables" / "T.yaml").write_text(TABLE)
    text = "before\n<!-- accuracy_T -->\nold\n<!-- end -->\nafter\n"
    (tmp_path / "README.md").write_text(text)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "results.md").write_text(f"<!-- latency_cpu -->\nof another\n<!-- end -->\n{text}")
    command = [sys.executable, "benchmarks/accuracy.py", "table=T", "parts=digits"]
    environment = {**os.environ, "STKD_CACHE": str(tmp_path / "cache")}
    log = tmp_path / "outputs" / "accuracy" / "T.log"
    begin = partial(subprocess.Popen[str], command, cwd=tmp_path, env=environment, start_new_session=True, text=True)
    for begun_before, (number, tell) in enumerate([(signal.SIGTERM, os.kill), (signal.SIGINT, os.killpg)]):
        asked = begin(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while not (log.is_file() and log.read_text().count("student: training") > begun_before):
            assert asked.poll() is None
            time.sleep(0.05)
        tell(asked.pid, number)  # the command alone, or as a terminal does
        assert asked.communicate(timeout=60)[1] == ""
        assert asked.returncode == 128 + number
        assert f"interrupted by {number.name}" in log.read_text()

    begun = begin(stdout=subprocess.PIPE)
    results = tmp_path / "benchmarks" / "results" / "accuracy" / "T" / "digits"
    while not list(tmp_path.glob("outputs/accuracy/T/digits/stkd-0-*/checkpoints/last.ckpt")):
        assert begun.poll() is None
        time.sleep(0.05)
    os.killpg(begun.pid, signal.SIGKILL)
    begun.wait()
    assert sorted(p.name for p in results.iterdir()) == ["ce-0.json", "kd-0.json"]
    times = {p.name: p.stat().st_mtime_ns for p in results.iterdir()}

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "table T: 6 runs, 4 to do" in done.stdout
    assert "student: resumed from" in log.read_text()
    assert {name: (results / name).stat().st_mtime_ns for name in times} == times
    readme = (tmp_path / "README.md").read_text()
    page = (tmp_path / "docs" / "results.md").read_text()
    assert page == f"<!-- latency_cpu -->\nof another\n<!-- end -->\n{readme}"
    assert readme.startswith("before\n<!-- accuracy_T -->\n**Digits, resnet20 → resnet8**; teacher ")
    assert readme.endswith("parts=folder`\n<!-- end -->\nafter\n")
    lines = [line.split(" | ") for line in readme.splitlines() if line.startswith("| ")]
    assert [line[:2] for line in lines[2:]] == [["| CE", "2"], ["| KD", "2"], ["| STKD", "2"]]
    assert lines[3][-1] == "97.50 |"
    assert "±" in lines[4][2]
    assert "±" not in lines[4][5]  # no interval from two seeds
    assert str(tmp_path) not in "".join(p.read_text() for p in results.iterdir())

    definition = (tmp_path / "benchmarks" / "tables" / "T.yaml").read_text()
    (tmp_path / "benchmarks" / "tables" / "U.yaml").write_text(definition + "validation_only: true\n")
    taken = subprocess.run([*command, "table=U"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert taken.stdout.count("as in another table") == 6
    seconds = [json.loads(path.read_text())["seconds"] for path in results.iterdir()]
    assert taken.stdout.splitlines()[-1] == f"| minutes per run | {sum(seconds) / 6 / 60:.1f} | not run |"
    for path in results.iterdir():
        whole = json.loads(path.read_text())
        whole["student"].pop("test")
        assert json.loads((results.parents[1] / "U" / "digits" / path.name).read_text()) == whole
    (tmp_path / "benchmarks" / "tables" / "U.yaml").write_text(definition.replace("max_epochs=2]", "max_epochs=3]"))
    (tmp_path / "README.md").write_text("<!-- accuracy_U -->\n<!-- end -->\n")  # figures of others are not shown
    subprocess.run([*command, "show=true"], cwd=tmp_path, env=environment, check=True)
    assert "resnet8**: not run; `python benchmarks/accuracy.py table=U" in (tmp_path / "README.md").read_text()

    changed = json.loads((results / "kd-0.json").read_text())
    changed["teacher"]["test"]["last"]["accuracy"] += 0.01
    (results / "kd-0.json").write_text(json.dumps(changed))
    (results / "stkd-1.json").unlink()
    refused = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    words = f"has another teacher than KD, seed 0; move {results} away to run the part anew"
    assert (refused.returncode, refused.stderr) == (2, f"error: digits, STKD, seed 1: {words}\n")
    assert not (results / "stkd-1.json").exists()

    (tmp_path / "README.md").write_text("<!-- accuracy_T -->\n<!-- end -->\n<!-- accuracy_U -->\nwithout an end\n")
    failed = subprocess.run([*command, "parts=folder"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: folder, CE, seed 0: exit code 2: error: dataset image_folder: ")
    assert "| KD | 2 |" in (tmp_path / "README.md").read_text()
    assert (tmp_path / "README.md").read_text().endswith("\n<!-- end -->\n<!-- accuracy_U -->\nwithout an end\n")

    for mistake, words in {
        "rows=KT": "row 'KT': unknown; all: CE, KD, STKD",
        "parts=digit": "part 'digit': unknown; did you mean digits? all: digits, folder",
        "table=V": "table 'V': unknown; all: T, U",
        "seeds=[0]": "seed '[0]': unknown; all: 0, 1",
        "seeds=0,2": "seed '2': unknown; all: 0, 1",
        "show": "show: None: true or false",
        "seed=0": "option 'seed': unknown; did you mean seeds? all: parts, rows, seeds, show, table, work",
    }.items():
        refused = subprocess.run([*command, mistake], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert (refused.returncode, refused.stderr) == (2, f"error: {words}\n")
