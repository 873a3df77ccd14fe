"""A run with few labels and many unlabelled images, as a user starts it."""

from pathlib import Path

import torch

from tests.conftest import Command

RUN = ["experiment=quickstart", "loss=stkd", "dataset.train_fraction=0.1", "dataset.batch_size=16",
       "dataset.unlabeled_ratio=3", "baseline=false", "logger=csv", "teacher.max_epochs=1", "teacher.min_accuracy=0",
       "trainer.max_epochs=2"]  # fmt: skip


def test_unlabelled_images_of_a_run_are_replayed(command: Command, tmp_path: Path) -> None:
    students = []
    for name in ("run", "replayed"):
        done = command("train", *RUN, "teacher.replay=true", f"hydra.run.dir={name}")
        assert done.returncode == 0, done.stderr
        saved = torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        students.append(saved["state_dict"])
    assert "teacher: logits are read from" in done.stdout
    assert all(torch.equal(value, students[1][name]) for name, value in students[0].items())
    refused = command("train", *RUN, "dataset.unlabeled_ratio=1", "hydra.run.dir=run", "resume=auto")
    assert refused.returncode == 2
    assert "error: resume: dataset.unlabeled_ratio=1" in refused.stderr
