"""The time and the number of images behind a run's figures."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from stkd_lightning.commands.diagnose import Extent, teacher_of, time_limit, write
from stkd_lightning.commands.report import complete_diagnostics
from stkd_lightning.data.datasets.digits import DigitsDataModule
from stkd_lightning.models import create_model
from stkd_lightning.reporting.diagnostics import FILE, read_diagnostics
from stkd_lightning.reporting.run import read_run
from tests.conftest import Command

CPU = torch.device("cpu")
SHORT = ["experiment=quickstart", "loss=ce", "trainer.max_epochs=1", "baseline=false", "logger=csv"]


@pytest.fixture
def data(tmp_path: Path) -> DigitsDataModule:
    """The digits, prepared."""
    module = DigitsDataModule(cache_dir=tmp_path / "cache")
    module.prepare_data()
    return module


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))


@pytest.mark.parametrize(("training", "limit"), [(0.0, 5.0), (50.0, 5.0), (600.0, 60.0)])
def test_time_limit_is_a_tenth_of_the_training(training: float, limit: float) -> None:
    assert time_limit(training) == limit


def test_figures_without_a_limit_use_the_whole_sample(data: DigitsDataModule, tmp_path: Path) -> None:
    write(network(), None, data, tmp_path / FILE, CPU, Extent())
    diagnostics = read_diagnostics(tmp_path / FILE)
    assert diagnostics.images == diagnostics.available > 100
    assert diagnostics.is_whole


def test_figures_out_of_time_say_what_they_lack(data: DigitsDataModule, tmp_path: Path) -> None:
    write(network(), None, data, tmp_path / FILE, CPU, Extent(seconds=0.0))
    diagnostics = read_diagnostics(tmp_path / FILE)
    assert 0 < diagnostics.images < diagnostics.available
    assert not diagnostics.is_whole


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_figures_of_a_student_of_another_precision(dtype: torch.dtype, data: DigitsDataModule, tmp_path: Path) -> None:
    write(network().to(dtype), None, data, tmp_path / FILE, CPU, Extent(20))
    assert read_diagnostics(tmp_path / FILE).images == 20


def test_figures_use_the_number_of_images_that_is_set(data: DigitsDataModule, tmp_path: Path) -> None:
    write(network(), None, data, tmp_path / FILE, CPU, Extent(70))
    diagnostics = read_diagnostics(tmp_path / FILE)
    assert diagnostics.images == 70
    assert diagnostics.is_whole


def test_report_measures_the_images_that_a_run_left_out(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep makes no figures where none are wanted, and leaves shortened ones; a report completes both."""
    done = command("train", "-m", "diagnostics=false,10", *SHORT, "hydra.sweep.dir=sweep", "cache_dir=cache")
    assert done.returncode == 0, done.stderr
    folders = [tmp_path / "sweep" / "0", tmp_path / "sweep" / "1"]
    assert not (folders[0] / FILE).exists()
    assert read_diagnostics(folders[1] / FILE).images == 10
    monkeypatch.chdir(tmp_path)
    data = DigitsDataModule(cache_dir="cache")
    data.prepare_data()
    write(network(), None, data, folders[1] / FILE, CPU, Extent(seconds=0.0))
    runs = [read_run(folder) for folder in folders]
    complete_diagnostics(runs, trust=False, cache_dir="cache", in_time=True)
    assert not read_diagnostics(folders[1] / FILE).is_whole
    complete_diagnostics(runs, trust=False, cache_dir="cache")
    assert all(read_diagnostics(folder / FILE).is_whole for folder in folders)


@pytest.mark.parametrize("value", ["0", "-1", "2.5", "true", "all"])
def test_number_of_images_must_be_positive(command: Command, value: str) -> None:
    refused = command("train", *SHORT, f"diagnostics={value}")
    assert refused.returncode == 2
    assert "must be auto, false or a number of images" in refused.stderr


def test_figures_compare_with_the_chosen_weights(data: DigitsDataModule, tmp_path: Path) -> None:
    trained = {name: create_model("resnet8", num_classes=10) for name in ("student", "teacher")}
    torch.save({name: one.state_dict() for name, one in trained.items()}, tmp_path / "both.pth")
    node = {"_target_": "stkd_lightning.models.create_model", "name": "resnet8", "num_classes": 10}
    settings = {"network": node, "checkpoint_key": "teacher", "input_size": None, "mean": None, "std": None}
    run: Any = SimpleNamespace(
        config={"teacher": settings},
        summary=SimpleNamespace(teacher_checkpoint=str(tmp_path / "both.pth")),
        folder=tmp_path,
    )
    teacher = teacher_of(run, data, trust=False)
    assert teacher is not None
    assert torch.equal(teacher.network.get_parameter("fc.weight"), trained["teacher"].fc.weight)
