"""A teacher is kept with its accuracy, and read back as a checkpoint."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from stkd_lightning.data.datasets.digits import DigitsDataModule
from stkd_lightning.models import create_model
from stkd_lightning.teacher import load_weights
from stkd_lightning.utilities.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import kept_teacher

    return kept_teacher


def finished(folder: Path, data: DigitsDataModule, changes: dict[str, Any]) -> Path:
    """Write what is read of a run that trained a teacher."""
    checkpoint = folder / "cache" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    state = create_model("resnet8", data.num_classes).state_dict()
    torch.save({"state_dict": {f"student.{k}": v for k, v in state.items()}}, checkpoint)
    taught = {"network": "resnet8", "source": "trained here, 0", "test": {"last": {"accuracy": 0.1}}}
    summary = {"teacher": taught, "teacher_checkpoint": str(checkpoint), "versions": {}, "hardware": {},
               "data": {"name": data.name, "digest": data.arrays.digest},
               "overrides": ["loss=kd", f"cache_dir={folder}", "dataset.data_dir=/data", "logger=csv"]}  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary | changes))
    return folder


def test_a_teacher_is_kept_in_half_precision(kept: Any, tmp_path: Path) -> None:
    data = DigitsDataModule()
    facts = kept.keep(finished(tmp_path / "run", data, {}), "small", data, tmp_path / "teachers")
    assert sorted(p.name for p in (tmp_path / "teachers").iterdir()) == ["small.json", "small.safetensors"]
    assert json.loads((tmp_path / "teachers" / "small.json").read_text()) == facts
    assert facts["recipe"]["overrides"] == ["loss=kd"]
    assert 0 <= facts["test_accuracy"] <= 1
    network = create_model("resnet8", data.num_classes)
    load_weights(network, tmp_path / "teachers" / "small.safetensors")
    state = torch.load(tmp_path / "run" / "cache" / "last.ckpt")["state_dict"]
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            assert torch.equal(value, state[f"student.{name}"].half().float())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teacher": {"source": "file.ckpt"}}, "trained no teacher; its source is file.ckpt"),
        ({"teacher": None}, "trained no teacher"),
        ({"teacher_checkpoint": "gone.ckpt"}, "the checkpoint of its teacher is gone from gone.ckpt"),
        ({"data": {"name": "digits", "digest": "0"}}, "its data are others"),
    ],
)
def test_other_runs_are_refused(kept: Any, changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    data = DigitsDataModule()
    with pytest.raises(InputError, match=words):
        kept.keep(finished(tmp_path / "run", data, changes), "small", data, tmp_path / "teachers")
    assert not (tmp_path / "teachers").exists()


def test_mistakes_of_the_command_line(kept: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kept.main(["run"]) == 2
    assert kept.main([str(tmp_path), "small"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: give a run's folder and a name")
    assert second.endswith("has no summary.json (No such file or directory); give the folder of a finished run")
