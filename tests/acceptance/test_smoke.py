"""``experiment=smoke`` runs one batch of everything, also in a sweep and with other choices."""

import json
from pathlib import Path

from tests.conftest import Command


def test_smoke_runs_one_batch_of_everything(command: Command, tmp_path: Path) -> None:
    done = command("train", "experiment=smoke", "student=resnet14", "-m", "loss=kd,sp", "hydra.sweep.dir=runs")
    assert done.returncode == 0, done.stderr
    for folder, loss in ((tmp_path / "runs/0", "kd"), (tmp_path / "runs/1", "sp")):
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["loss"] == loss
        assert summary["student"]["network"] == "resnet14"
        assert summary["teacher"]["network"] == "resnet8"
        assert (folder / "diagnostics.npz").is_file()
        assert (folder / "checkpoints/last.ckpt").is_file()
        assert (folder / "metrics.csv").read_text().count("\n") <= 4  # the header, and one epoch
    assert (tmp_path / "runs/report.html").is_file()
