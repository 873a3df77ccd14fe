"""What a command says when it ends early."""

import shlex
import sys
from pathlib import Path

import pytest

from stkd_lightning.commands.config.compose import composed, composing
from stkd_lightning.commands.endings import resume_hint


@pytest.mark.parametrize(
    ("folder", "shown"),
    [
        ("outputs/2026-11-26/13-50-00", "outputs/2026-11-26/13-50-00"),
        ("my runs/1", "my runs/1"),
        ("2026", "2026"),
        ("out/epoch=3", "'out/epoch=3'"),
        ("a,b", "'a,b'"),
        ("it's", "'it\\'s'"),
        ("1e3", "'1e3'"),
    ],
)
def test_resume_hint_can_be_run(folder: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train", "loss=kd", "hydra.run.dir='x'"])
    words = shlex.split(resume_hint([tmp_path / folder]).partition("resume with: ")[2])
    assert words[-3:] == ["loss=kd", f"hydra.run.dir={shown}", "resume=auto"]
    with composing():
        assert composed("train", words[-3:]).hydra.run.dir == folder
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    assert shlex.split(resume_hint([tmp_path / folder]))[-2:] == words[-2:]
