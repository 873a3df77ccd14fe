"""metrics.csv is whole at any time, and goes on where a checkpoint was written."""

from pathlib import Path

import pytest
import torch

from stkd_lightning.reporting.loggers import metrics_csv
from stkd_lightning.reporting.loggers.metrics_csv import MetricsFile


def test_rows_of_different_columns(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path)
    metrics.log_metrics({"b": 1.5, "a": torch.tensor(2.5)}, step=3)
    metrics.log_metrics({"c": 0.1})
    metrics.save()
    assert (tmp_path / "metrics.csv").read_text() == "a,b,c,step\n2.5,1.5,,3\n,,0.1,\n"


def test_it_is_written_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = MetricsFile(tmp_path)
    metrics.log_metrics({"a": 1.0}, step=0)
    assert not (tmp_path / "metrics.csv").exists()
    monkeypatch.setattr(metrics_csv, "INTERVAL", 0.0)
    metrics.log_metrics({"a": 1.0}, step=1)
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 3


def test_resumed_run_leaves_the_file_of_an_uninterrupted_one(tmp_path: Path) -> None:
    rows = [{"a": 0.1 * i} if i % 3 else {"b": 1 / (i + 1), "epoch": i} for i in range(10)]
    for folder, cut in (("whole", 0), ("parts", 4)):
        metrics = MetricsFile(tmp_path / folder)
        metrics.begin(0)
        for step, row in enumerate(rows[: 7 if cut else None]):
            metrics.log_metrics(row, step=step)
        metrics.save()
        if cut:
            metrics = MetricsFile(tmp_path / folder)
            metrics.begin(cut)
            for step, row in enumerate(rows[cut:], cut):
                metrics.log_metrics(row, step=step)
            metrics.save()
    assert (tmp_path / "parts" / "metrics.csv").read_bytes() == (tmp_path / "whole" / "metrics.csv").read_bytes()
