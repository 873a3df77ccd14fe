"""An offline W&B run is written by a command and read back with wandb's own record classes."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from wandb.proto import wandb_internal_pb2

from stkd_lightning.reporting.loggers.finish import finish
from stkd_lightning.reporting.loggers.wandb import logged_in, wandb_logger
from stkd_lightning.tasks.segmentation_metrics import loggable
from tests.conftest import Command
from tests.reporting.mask_runs import CLASSES, mask_run
from tests.reporting.runs import run

# A W&B record log is LevelDB's: a 7-byte file header, then blocks of 32 KiB of chunks (crc32, length, type).
FILE_HEADER, BLOCK, CHUNK_HEADER = 7, 32 * 1024, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


FINISHED = run("kd", 0, 0.5)


def records(path: Path) -> Iterator[Any]:
    """Yield the records of a ``.wandb`` file."""
    content, at, parts = path.read_bytes(), FILE_HEADER, b""
    assert content[:4] == b":W&B"
    while at + CHUNK_HEADER <= len(content):
        if BLOCK - at % BLOCK < CHUNK_HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + CHUNK_HEADER])
        at += CHUNK_HEADER
        parts = content[at : at + length] if kind in (FULL, FIRST) else parts + content[at : at + length]
        at += length
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record


def value(item: Any) -> tuple[str, Any]:
    return item.key or "/".join(item.nested_key), json.loads(item.value_json)


def test_an_offline_run_is_written_and_read_back(command: Command, tmp_path: Path) -> None:
    done = command(
        "train", "experiment=quickstart", "trainer.max_epochs=2", "teacher.max_epochs=2", "teacher.min_accuracy=0",
        "baseline=false", "cache_dir=cache", "hydra.mode=MULTIRUN", "hydra.sweep.dir=mine", "hydra.sweep.subdir=run",
        "logger.wandb.tags=[first]",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = done.stdout.split("wandb sync ")[1].split()[0]
    (log,) = (tmp_path / folder).glob("*.wandb")
    config: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    best: dict[str, str] = {}
    artifacts: dict[str, Any] = {}
    for record in records(log):
        if record.HasField("run"):
            assert record.run.project == "stkd-lightning"
            assert list(record.run.tags) == ["first"]
            assert (record.run.run_group, record.run.job_type) == ("mine", "train")
            assert record.run.display_name == "stkd resnet8 digits trainer.max_epochs=2 teacher.max_epochs=2 seed 0"
            config.update(value(i) for i in record.run.config.update)
        if record.HasField("config"):
            config.update(value(i) for i in record.config.update)
        if record.HasField("history"):
            history.append(dict(value(i) for i in record.history.item))
        if record.HasField("metric") and record.metric.name:
            axis = record.metric.step_metric
            best[record.metric.name] = axis and f"{'max' if record.metric.summary.max else 'min'} over {axis}"
        if record.HasField("artifact"):
            artifacts[record.artifact.type] = record.artifact
        if record.HasField("summary"):
            summary.update(value(i) for i in record.summary.update)
    written = json.loads((tmp_path / "mine" / "run" / "summary.json").read_text())
    assert config["loss"]["alpha"] == 0.9
    assert config["student"]["name"] == "resnet8"
    validated = [row["val/accuracy"] for row in history if "val/accuracy" in row]
    assert len(validated) == 2
    assert validated[-1] == pytest.approx(written["student"]["validation"]["accuracy"])
    assert any("train/similarity" in row for row in history)
    assert any("lr-SGD" in row for row in history)
    assert summary["test/accuracy"] == pytest.approx(written["student"]["test"]["last"]["accuracy"])
    assert summary["selected/accuracy"] == pytest.approx(written["student"]["test"]["selected"]["accuracy"])
    assert summary["val/accuracy"] == {"max": pytest.approx(max(validated))}
    assert best["val/accuracy"] == "max over trainer/global_step"
    assert best["val/calibration_error"] == best["train/loss"] == "min over trainer/global_step"
    source = {entry.path for entry in artifacts["source"].manifest.contents}
    assert {"config.yaml", "stkd_lightning/losses/stkd.py"} <= source
    (student,) = artifacts["model"].manifest.contents
    assert Path(student.local_path) == tmp_path / "mine" / "run" / "checkpoints" / "best.ckpt"  # not a copy
    facts = json.loads(artifacts["model"].metadata)
    assert (facts["data"], facts["method"], facts["network"]) == ("digits", "stkd", "resnet8")
    assert facts["test"] == written["student"]["test"]["selected"]
    pictures = {p.name.split("_")[0] for p in (tmp_path / folder).rglob("media/images/pictures/*.png")}
    of_classes = {"class", "confusion", "mistakes", "outcomes", "losses", "terms"}
    others = {"curves", "divergence", "mixtures", "similarity", "calibration", "gallery"}
    assert pictures - {"disagreements"} == of_classes | others
    (shown,) = (tmp_path / folder).rglob("classes*.table.json")
    table = json.loads(shown.read_text())
    assert table["columns"] == ["class", "images", "teacher", "stkd"]
    assert [row[0] for row in table["data"]] == list("0123456789")
    assert sum(row[1] for row in table["data"]) == written["images"]["validation"]
    (shown,) = (tmp_path / folder).rglob("networks*.table.json")
    table = json.loads(shown.read_text())
    assert [row[:2] for row in table["data"]] == [["teacher", "resnet20"], ["stkd", "resnet8"]]
    assert table["data"][1][4] == pytest.approx(summary["test/accuracy"])


def test_pictures(tmp_path: Path) -> None:
    logger = wandb_logger(tmp_path, project="x")
    finish([logger], FINISHED, figures={"curves": Figure()})
    (picture,) = tmp_path.rglob("*.png")
    assert picture.match("media/images/pictures/curves_*.png")


def test_classes_of_segmentation_are_a_table(tmp_path: Path) -> None:
    masks = mask_run(tmp_path / "run", "dsd")
    masks.summary.student.test["selected"]["iou/sky"] = float("nan")  # occurs neither in truth nor in predictions
    finish([wandb_logger(tmp_path / "logs", project="x")], masks)
    (shown,) = (tmp_path / "logs").rglob("classes*.table.json")
    table = json.loads(shown.read_text())
    assert table["columns"] == ["class", "teacher", "alone", "dsd"]
    assert [row[0] for row in table["data"]] == [loggable(name) for name in CLASSES]
    assert table["data"][1][3] == masks.summary.student.test["selected"][f"iou/{loggable(CLASSES[1])}"]
    (shown,) = (tmp_path / "logs").rglob("networks*.table.json")
    heads = ["mIoU", "pixels", "image IoU", "> 90 %", "variance", "selected"]
    assert json.loads(shown.read_text())["columns"][4:] == heads
    pictures = {p.name.rsplit("_", 2)[0] for p in (tmp_path / "logs").rglob("media/images/pictures/*.png")}
    assert pictures == {"curves", "class_iou", "category_similarity", "mask_gallery"}


def test_the_environment_can_turn_it_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    logger = wandb_logger(tmp_path, project="x")
    logger.log_metrics({"a": 1.0})
    logger.experiment.finish()
    assert not list(tmp_path.rglob("*.wandb"))


def test_logged_in_is_read_from_where_wandb_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not logged_in()
    (tmp_path / "netrc").write_text("machine api.wandb.ai\n  login user\n  password secret\n")
    assert logged_in()
    monkeypatch.setenv("WANDB_BASE_URL", "http://localhost:8080")
    assert not logged_in()
    monkeypatch.setenv("WANDB_API_KEY", "key")
    assert logged_in()
