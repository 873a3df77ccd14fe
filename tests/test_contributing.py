"""The steps in CONTRIBUTING work as written; CHANGELOG and CITATION are in the formats that tools expect."""

import importlib.metadata
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import stkd_lightning.losses
from tests.conftest import Command

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
FILES = dict(re.findall(r"^`([\w/.]+)`[^\n]*:\n\n```\w+\n(.*?)```", CONTRIBUTING, re.DOTALL | re.MULTILINE))


def test_the_files_of_a_method() -> None:
    assert sorted(FILES) == [
        "conf/loss/logits.yaml",
        "conf/term/logits.yaml",
        "src/stkd_lightning/losses/logits.py",
        "tests/losses/test_logits.py",
    ]


def test_a_method_is_added(command: Command, tmp_path: Path) -> None:
    """Put the files where CONTRIBUTING says, in a copy of the project, and run the command that it shows."""
    for folder in ("src", "conf"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in FILES.items():
        assert not (tmp_path / name).exists()
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    joined = CONTRIBUTING.replace("\\\n", " ")
    (shown,) = re.findall(r"^python -m stkd_lightning\.train (loss=logits .*)$", joined, re.MULTILINE)
    done = command("train", *shlex.split(shown), "hydra.run.dir=run", PYTHONPATH=str(tmp_path / "src"))
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["loss"] == "logits"
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/cross_entropy", "train/logits"} <= set(header)


def test_its_tests_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "logits.py").write_text(FILES["src/stkd_lightning/losses/logits.py"])
    monkeypatch.setattr(stkd_lightning.losses, "__path__", [*stkd_lightning.losses.__path__, str(tmp_path)])
    names: dict[str, Any] = {}
    exec(compile(FILES["tests/losses/test_logits.py"], "test_logits.py", "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) >= 6
    for test in tests:
        test()


def test_the_tree_is_as_described() -> None:
    section = CONTRIBUTING.split("## Where things are")[1].split("## ")[0]
    package = ROOT / "src" / "stkd_lightning"
    for cell in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE):
        for name in re.findall(r"`([\w/.]+)`", cell):
            assert (ROOT / name).exists() or (package / name).exists(), name


def test_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert text.startswith("# Changelog\n")
    versions = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d{2}-\d{2}))?$", text, re.MULTILINE)
    assert versions[0] == ("Unreleased", "")
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) and date for version, date in versions[1:])
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds


def test_citation() -> None:
    """Check the fields that the Citation File Format 1.2.0 requires, and those that name this software."""
    cited: Any = OmegaConf.to_container(OmegaConf.create((ROOT / "CITATION.cff").read_text()))
    known = {"abstract", "authors", "cff-version", "keywords", "license", "message", "references", "title", "type",
             "version"}  # fmt: skip
    assert set(cited) == known
    assert cited["cff-version"] == "1.2.0"
    assert cited["type"] == "software"
    about = importlib.metadata.metadata("stkd-lightning")
    assert (cited["title"], cited["version"], cited["license"]) == ("stkd-lightning", about["Version"], "Apache-2.0")
    for work in (cited, *cited["references"]):
        assert work["title"]
        assert work["authors"]
        assert all("name" in author or {"family-names", "given-names"} <= set(author) for author in work["authors"])
    (paper,) = cited["references"]
    assert paper["type"] == "article"
    assert paper["url"] == "https://arxiv.org/abs/2103.10047"
    assert set(paper["identifiers"][0]) == {"type", "value", "description"}
    assert paper["identifiers"][0]["type"] in {"doi", "url", "swh", "other"}
