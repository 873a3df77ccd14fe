"""Fine-tuning: a student starts from its own training on other data, which is done once and resumed exactly."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soak
import torch

from stkd_lightning.inference.provenance import StudentProvenance
from stkd_lightning.models.weights import read_checkpoint
from tests.conftest import Command

ROOT = Path(__file__).parents[3]
RUN = [
    "dataset=_masks", "dataset._target_=tests.tasks.squares.SquaresDataModule", "student=dilated_resnet",
    "student.width=2", "loss=ce", "logger=csv", "trainer=cpu", "trainer.max_epochs=2", "optimizer=adamw",
    "precision=32-true", "compile=false", "dataset.train_images=8", "cache_dir=cache",
]  # fmt: skip
BEFORE = "pretraining={dataset:{train_images:null,scale:[1,2]},max_epochs:3,lr:0.01}"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder from which commands import the data set."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    return tmp_path


def weights(run: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]


def test_a_student_starts_from_its_pretraining(command: Command, here: Path) -> None:
    done = command("train", *RUN, BEFORE, "hydra.run.dir=run", "optimizer.lr=1e-18", cwd=here)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if ": training " in line]
    assert [line.partition(":")[0] for line in lines] == ["pretraining", "student"]
    assert "for 3 epochs" in lines[0]
    (entry,) = (here / "cache" / "trained").glob("*/last.ckpt")
    trained = read_checkpoint(entry)["state_dict"]
    for name, value in weights(here / "run").items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(value, trained[name], atol=1e-12, rtol=0)
    assert StudentProvenance.from_checkpoint(here / "run" / "checkpoints" / "last.ckpt").front == entry.parent.name
    done = command("train", *RUN, BEFORE, "hydra.run.dir=other", cwd=here)
    assert done.returncode == 0, done.stderr
    assert "pretraining: already trained, reused from" in done.stdout


@pytest.mark.parametrize("until", ["cache/trained/*.partial/before_last.ckpt", "run/checkpoints/before_last.ckpt"])
def test_a_killed_fine_tuning_ends_as_one_that_is_not(until: str, command: Command, here: Path) -> None:
    options = [*RUN, BEFORE.replace("max_epochs:3", "max_epochs:20"), "trainer.max_epochs=20",
               "checkpoint_minutes=0.001"]  # fmt: skip
    run = subprocess.Popen([sys.executable, "-m", "stkd_lightning.train", *options, "hydra.run.dir=run"], cwd=here,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # fmt: skip
    while not list(here.glob(until)):
        assert run.poll() is None, run.communicate()
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    done = command("train", *options, "hydra.run.dir=run", "resume=auto", cwd=here)
    assert done.returncode == 0, done.stderr
    assert ("student: resumed" in done.stdout) == until.startswith("run")
    shutil.move(here / "cache", here / "first")  # the whole run trains all anew
    done = command("train", *options, "hydra.run.dir=whole", cwd=here)
    assert done.returncode == 0, done.stderr
    assert soak.compared(here / "whole", here / "run") == []
    done = command("train", *options, "pretraining.max_epochs=21", "hydra.run.dir=run", "resume=auto", cwd=here)
    assert done.returncode == 2
    assert "resume: pretraining.max_epochs=21, but" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["pretraining={epochs:3}"], "option of pretraining 'epochs': unknown; did you mean max_epochs"),
        (["pretraining={max_epochs:0}"], "pretraining.max_epochs=0: must be a whole number of at least 1"),
        (["pretraining={dataset:{scales:1}}"], "option of pretraining.dataset 'scales': unknown; did you mean scale"),
        (["pretraining=5"], "pretraining=5: must be options and their values"),
        (["pretraining={dataset:3}"], "pretraining.dataset=3: must be options of the data and their values"),
        (["pretraining={dataset:{seed:3}}"], "pretraining.dataset.seed: is that of the trained network; set seed"),
        (["loss=spirit", "teacher=dilated_resnet", BEFORE], "pretraining: loss=spirit changes the student"),
    ],
)
def test_bad_pretraining_exits_in_one_line(options: list[str], words: str, command: Command, here: Path) -> None:
    done = command("train", *RUN, *options, "hydra.run.dir=run", cwd=here)
    assert done.returncode == 2, done.stdout
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (here / "cache" / "trained").exists()
