"""Runs whose terminal goes away or cannot show a name: they end as others do, with their results."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import Command

RUN = ["experiment=quickstart", "logger=csv", "baseline=false", "loss=ce", "trainer.max_epochs=1",
       "trainer.limit_train_batches=2"]  # fmt: skip


def test_training_goes_on_without_a_reader(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stkd_lightning.train", *RUN, "hydra.run.dir=run"]
    script = '"$@" 2>&1 | head -n 1; exit "${PIPESTATUS[0]}"'
    done = subprocess.run(["bash", "-c", script, "bash", *command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert (tmp_path / "run" / "summary.json").is_file()
    assert (tmp_path / "run" / "diagnostics.npz").is_file()


def test_training_prints_its_folder_as_it_is(fresh_command: Command, tmp_path: Path) -> None:
    folder = "a[bold]b[/]ë\x1b[31m"
    done = fresh_command("train", *RUN, f"hydra.run.dir='{folder}'", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert r"a[bold]b[/]\xeb\x1b[31m: summary.json, " in done.stdout
    assert (tmp_path / folder / "summary.json").is_file()


def test_error_shows_control_characters(command: Command) -> None:
    done = command("evaluate", "checkpoint='\x1b[31mx\u202e.ckpt'")
    assert done.returncode == 2
    assert r"checkpoint \x1b[31mx\u202e.ckpt: no such file" in done.stderr
