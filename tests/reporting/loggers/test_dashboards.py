"""TensorBoard and MLflow go on with a run and end none; what they wrote is read back by their own code."""

import csv
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import Logger
from matplotlib.figure import Figure
from mlflow.tracking import MlflowClient
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stkd_lightning.commands.config import checks
from stkd_lightning.reporting.loggers.finish import abandon, finish, log_configuration
from stkd_lightning.reporting.loggers.mlflow import FaultTolerantMLFlowLogger
from stkd_lightning.reporting.loggers.run_names import run_name, sweep_name
from stkd_lightning.reporting.loggers.tensorboard import FaultTolerantTensorBoardLogger
from stkd_lightning.utilities.errors import InputError
from tests.conftest import Command
from tests.reporting.runs import run

RUN = ["experiment=quickstart", "loss=ce", "trainer.max_epochs=4", "baseline=false", "cache_dir=cache",
       "logger=[tensorboard,mlflow]", "hydra.run.dir=run", "resume=auto"]  # fmt: skip
TEST = {"last": {"accuracy": 0.5}, "selected": {"accuracy": 0.6}}
FINISHED = run("kd", 0, 0.5)
STUDENT = replace(FINISHED.summary.student, test=TEST)
FINISHED = replace(FINISHED, summary=replace(FINISHED.summary, student=STUDENT))


def in_tensorboard(folder: Path) -> EventAccumulator:
    (one,) = {path.parent for path in folder.rglob("events.*")}
    return EventAccumulator(str(one)).Reload()


def in_mlflow(folder: Path) -> tuple[MlflowClient, Any]:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiments = [client.get_experiment_by_name("stkd-lightning")]
    (run,) = client.search_runs([e.experiment_id for e in experiments if e])
    return client, run


@pytest.mark.parametrize("phase", ["training", "results"])
def test_a_run_that_was_killed_is_logged_once(phase: str, command: Command, tmp_path: Path) -> None:
    log, before_last = tmp_path / "log", tmp_path / "run" / "checkpoints" / "before_last.ckpt"
    with log.open("w") as output:
        run = subprocess.Popen([sys.executable, "-m", "stkd_lightning.train", *RUN], cwd=tmp_path, stdout=output)
    # The table comes before the pictures and the dashboards' last figures.
    while not (before_last.exists() if phase == "training" else "last and selected student" in log.read_text()):
        assert run.poll() is None
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert not (tmp_path / "run" / "summary.json").exists()
    done = command("train", *RUN)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stdout
    assert (tmp_path / "run" / "diagnostics.npz").is_file()
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    events = in_tensorboard(tmp_path / "run")
    client, kept = in_mlflow(tmp_path)
    for name in ("val/accuracy", "train/loss"):
        written = {int(row["step"]): float(row[name]) for row in rows if row[name]}
        shown, history = events.Scalars(name), client.get_metric_history(kept.info.run_id, name)
        assert len(shown) == len(history) == len(written)
        assert {e.step: e.value for e in shown} == pytest.approx(written, rel=1e-6)
        assert {m.step: m.value for m in history} == pytest.approx(written)
    results = [("test/accuracy", summary["student"]["test"]["last"]["accuracy"]),
               ("selected/accuracy", summary["student"]["test"]["selected"]["accuracy"])]  # fmt: skip
    for name, value in results:
        assert [e.value for e in events.Scalars(name)] == pytest.approx([value])
        assert kept.data.metrics[name] == pytest.approx(value)
    assert "_hparams_/session_start_info" in events.summary_metadata
    assert kept.data.params["student/name"] == "resnet8"
    assert kept.info.run_name == "ce resnet8 digits max_epochs=4 seed 0"
    assert kept.info.status == "FINISHED"


def make(kind: str, folder: Path) -> Logger:
    if kind == "tensorboard":
        return FaultTolerantTensorBoardLogger(folder, id="abcd")
    uri = f"sqlite:///{folder}/mlflow.db"
    return FaultTolerantMLFlowLogger(tracking_uri=uri, experiment_name="stkd-lightning", id="abcd", group="s")


def test_steps_that_are_done_again_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for kind in ("tensorboard", "mlflow"):
        for resume, steps in ((None, range(5)), ("auto", range(3, 8))):
            logger = make(kind, tmp_path)
            log_configuration([logger], {"resume": resume, "url": "https://me:zq7@h/x", "loss": {"alpha": 0.9}})
            for step in steps:
                logger.log_metrics({"a": 0.5 * step}, step)
                if step % 2:
                    logger.log_metrics({"b": 1.0, "epoch": 0}, step)
                logger.save()
            if resume is None:
                logger.finalize("failed")
        finish([logger], FINISHED, figures={"curves": Figure()})
    events = in_tensorboard(tmp_path / "tensorboard")
    client, run = in_mlflow(tmp_path)
    for name, kept in (("a", list(range(8))), ("b", [1, 3, 5, 7])):
        assert [e.step for e in events.Scalars(name)] == kept
        assert sorted(m.step for m in client.get_metric_history(run.info.run_id, name)) == kept
    assert events.Tags()["images"] == ["pictures/curves"]
    assert [f.path for f in client.list_artifacts(run.info.run_id, "pictures")] == ["pictures/curves.png"]
    assert run.data.params == {"resume": "None", "url": "https://***@h/x", "loss/alpha": "0.9"}
    assert run.data.tags["group"] == "s"
    assert run.info.status == "FINISHED"
    assert run.data.metrics["selected/accuracy"] == 0.6


def test_faults_are_one_warning_and_end_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    dead = FaultTolerantMLFlowLogger(tracking_uri="http://127.0.0.1:9", experiment_name="x")
    for logger in (make("tensorboard", tmp_path / "file"), dead):
        log_configuration([logger], {"a": 1})
        for step in range(3):
            logger.log_metrics({"a": 1.0}, step)
            logger.save()
        logger.finalize("success")
        assert (logger.name, logger.version) in (("tensorboard", "abcd"), ("x", None))
    finish([dead], FINISHED)
    abandon()
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("warning: TensorBoard: ")
    assert first.endswith("; the run continues without it")
    assert second == "warning: MLflow: http://127.0.0.1:9: Connection refused; the run continues without it"


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_without_the_package(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda package: None)
    with pytest.raises(InputError) as error:
        checks._check_packages(OmegaConf.create({"csv": {}, name: {}}))
    assert str(error.value) == f"logger={name}: its package is not installed; run pip install 'stkd-lightning[{name}]'"


def test_names(tmp_path: Path) -> None:
    overrides = ["experiment=quickstart", "loss=stkd", "loss.alpha=0.123456", "trainer.max_epochs=2",
                 "teacher.max_epochs=1", "cache_dir=c", "resume=auto", "seed=1", "~callbacks"]  # fmt: skip
    name = run_name("stkd", "resnet8", "digits", overrides, 1)
    assert name == "stkd resnet8 digits alpha=0.1235 trainer.max_epochs=2 teacher.max_epochs=1 seed 1"
    assert len(run_name("stkd", "x" * 200, "digits", [], 1)) <= 120
    assert sweep_name(tmp_path / "mine" / "0", swept=True) == "mine"
    assert sweep_name(tmp_path / "2026-01-31" / "12-00-00" / "0", swept=True) == "2026-01-31_12-00-00"
    assert sweep_name(tmp_path / "mine" / "0", swept=False) is None
    (tmp_path / "multirun.yaml").write_text("")
    assert sweep_name(tmp_path / "0", swept=False) == tmp_path.name
