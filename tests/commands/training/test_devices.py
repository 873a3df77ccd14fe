"""The devices of trials, teachers and ranks, on machines with and without GPUs."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from omegaconf import OmegaConf

from stkd_lightning.commands.training import teacher as teachers
from stkd_lightning.commands.training.devices import first_device, rank_device
from stkd_lightning.data import DigitsDataModule
from stkd_lightning.models import create_model
from stkd_lightning.teacher import FrozenTeacher

LAUNCHERS = ("LOCAL_RANK", "SLURM_LOCALID")


@pytest.mark.parametrize(
    ("devices", "tried"), [(1, 1), (4, 1), (-1, 1), ("auto", 1), ([2, 3], [2]), ("2,3", "2,"), ("1,", "1,")]
)
def test_trial_uses_the_first_device(devices: object, tried: object) -> None:
    value = OmegaConf.create({"devices": devices}).devices
    assert first_device(value) == tried


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    ("options", "launched", "device"),
    [
        ({"devices": 1}, {}, "cuda:0"),
        ({"devices": [1]}, {}, "cuda:1"),
        ({"devices": "2,3"}, {}, "cuda:2"),
        ({"devices": "2,3"}, {"LOCAL_RANK": "1"}, "cuda:3"),
        ({"devices": -1, "accelerator": "gpu"}, {"LOCAL_RANK": "3"}, "cuda:3"),
        ({"devices": "auto"}, {"SLURM_LOCALID": "2"}, "cuda:2"),
        ({"devices": [1], "accelerator": "cpu"}, {}, "cpu"),
        ({"devices": 2, "accelerator": "cpu"}, {"LOCAL_RANK": "1"}, "cpu"),
    ],
)
def test_rank_device_is_the_device_of_the_trainer(
    options: dict[str, Any], launched: dict[str, str], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    assert rank_device(OmegaConf.create(options)) == torch.device(device)


def test_rank_device_without_a_gpu_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert rank_device(OmegaConf.create({"accelerator": "auto", "devices": "auto"})) == torch.device("cpu")


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(("accelerator", "device"), [("gpu", "cuda:1"), ("cpu", "cpu")])
def test_teacher_is_checked_on_the_device_of_the_rank(
    accelerator: str, device: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[torch.device] = []

    def measure(teacher: FrozenTeacher, loader: Any, device: torch.device, task: Any) -> float:
        measured.append(device)
        return 0.9

    monkeypatch.setattr(teachers, "freeze", lambda network, trainer: FrozenTeacher(network))
    monkeypatch.setattr(teachers, "score", measure)
    found = SimpleNamespace(
        network=create_model("resnet8", num_classes=10), key="key", checkpoint=tmp_path / "last.ckpt", fitted=None
    )
    monkeypatch.setattr(teachers, "get_or_train", lambda *_: found)
    node = OmegaConf.create({"min_accuracy": None, "network": {"_target_": "resnet8"}})
    trainer = OmegaConf.create({"accelerator": accelerator, "devices": [1]})
    data = DigitsDataModule()
    data.prepare_data()
    teachers.obtain(node, cast(Any, SimpleNamespace(trainer=trainer)), data, tmp_path, needed=True)
    assert measured == [torch.device(device)]
