"""A cache with damaged files, and a cache that cannot be written, under the commands that use it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Command

RUN = ["experiment=quickstart", "teacher=resnet14", "trainer.max_epochs=1", "teacher.max_epochs=1", "logger=csv",
       "teacher.min_accuracy=0.01", "teacher.replay=true", "cache_dir=cache"]  # fmt: skip


def figures(run: Path) -> list[object]:
    summary = json.loads((run / "summary.json").read_text())
    return [summary[name]["test"] for name in ("teacher", "baseline", "student")]


@pytest.fixture
def filled(command: Command, tmp_path: Path) -> Path:
    """A cache with all that one run needs, beside this run."""
    done = command("train", *RUN, "hydra.run.dir=first")
    assert done.returncode == 0, done.stderr
    return tmp_path / "cache"


@pytest.fixture
def read_only(filled: Path) -> Iterator[Path]:
    """The same cache, mounted so that not even root can write to it."""
    for options in (["--bind", filled], ["-o", "remount,ro,bind"]):
        if subprocess.run(["mount", *options, filled], capture_output=True).returncode:
            pytest.skip("a folder cannot be mounted read-only here")
    yield filled
    subprocess.run(["umount", "--lazy", filled], check=True)


def test_damaged_cache_is_made_anew(command: Command, filled: Path, tmp_path: Path) -> None:
    damaged = [*filled.glob("accuracy/*.json"), *filled.glob("trained/*/figures.json"), *filled.glob("replay/*/*.json"),
               *filled.glob("data/*/facts.json")]  # fmt: skip
    assert len(damaged) >= 1 + 2 + 2 + 1
    for path in damaged:
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-20])
    done = command("train", *RUN, "hydra.run.dir=second")
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stdout.splitlines() if "cannot be used" in line]
    assert len(warnings) == len(damaged)
    assert figures(tmp_path / "second") == figures(tmp_path / "first")
    again = command("train", *RUN, "hydra.run.dir=third")
    assert again.returncode == 0, again.stderr
    assert "cannot be used" not in again.stdout
    assert "training resnet14" not in again.stdout


def test_read_only_cache_is_used(command: Command, read_only: Path, tmp_path: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in read_only.rglob("*"))
    done = command("train", *RUN, "hydra.run.dir=second")
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stdout + done.stderr
    assert figures(tmp_path / "second") == figures(tmp_path / "first")
    assert sorted((path, path.stat().st_mtime_ns) for path in read_only.rglob("*")) == before
    evaluated = command("evaluate", "checkpoint=first", "cache_dir=cache")
    assert evaluated.returncode == 0, evaluated.stderr

    refused = command("train", *RUN, "teacher.seed=5", "hydra.run.dir=third")
    assert refused.returncode == 2, refused.stdout
    assert refused.stderr.count("\n") == 1
    assert "cannot be written (Read-only file system), but " in refused.stderr


def test_pruned_cache_is_filled_again(command: Command, fresh_command: Command, filled: Path, tmp_path: Path) -> None:
    for about in filled.glob("trained/*/about.json"):
        if json.loads(about.read_text())["role"] == "baseline":
            about.unlink()  # as older versions leave it
    listed = fresh_command("cache", "cache_dir=cache", COLUMNS="200")
    assert listed.returncode == 0, listed.stderr
    shown = " ".join(listed.stdout.split())
    assert "teacher: resnet14 on digits, 1 epoch, accuracy 0." in shown
    assert " resnet8 on digits, accuracy 0." in shown
    assert "1,347 train + 450 test images 8x8, 10 classes" in shown
    assert "leftover" not in shown
    pruned = command("cache", "cache_dir=cache", "older_than_days=0", "prune=true")
    assert pruned.returncode == 0, pruned.stderr
    assert not [path for path in filled.rglob("*") if path.is_file()]
    done = command("train", *RUN, "hydra.run.dir=second")
    assert done.returncode == 0, done.stderr
    assert figures(tmp_path / "second") == figures(tmp_path / "first")
