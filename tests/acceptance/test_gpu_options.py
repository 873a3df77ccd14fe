"""The options for GPUs, as a user on a CPU meets them."""

import json
from pathlib import Path

import pytest

from tests.conftest import Command

SMOKE = ("train", "experiment=smoke", "hydra.run.dir=run")


def test_a_graph_is_not_recorded_on_a_cpu(command: Command, tmp_path: Path) -> None:
    done = command(*SMOKE, "cuda_graph=true", "trainer.accelerator=cpu")
    assert done.returncode == 0, done.stderr
    assert "cuda_graph=true: the step is not recorded in one graph: compile=false" in done.stdout
    assert (tmp_path / "run/summary.json").is_file()


def test_the_teacher_looks_ahead(command: Command, tmp_path: Path) -> None:
    """With eight batches an epoch; the student's figures are those of single batches up to rounding."""
    scores = []
    for steps in (1, 4):
        options = ("trainer.limit_train_batches=8", f"teacher.look_ahead={steps}", "precision=32-true")
        done = command(*SMOKE[:2], *options, f"hydra.run.dir=run{steps}", "trainer.accelerator=cpu")
        assert done.returncode == 0, done.stderr
        summary = json.loads((tmp_path / f"run{steps}/summary.json").read_text())
        scores.append(summary["student"]["test"]["last"]["cross_entropy"])
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["teacher.look_ahead=0"], "teacher.look_ahead=0: must be a whole number of at least 1"),
        (["teacher.look_ahead=2", "dataset.resident=false"], "teacher.look_ahead=2: needs a data module"),
        (["cuda_graph=auto"], "cuda_graph=auto"),
    ],
)
def test_mistakes_in_gpu_options(options: list[str], words: str, command: Command, tmp_path: Path) -> None:
    done = command(*SMOKE, *options)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {words}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run/summary.json").exists()
