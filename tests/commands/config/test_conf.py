"""Every shipped configuration composes, and what it names can be built."""

import re
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, read_write
from torch import nn

from stkd_lightning.commands.config.checks import check
from stkd_lightning.models import list_models
from stkd_lightning.models.start import without_start
from stkd_lightning.schedules import Cosine, MultiStep, Polynomial
from stkd_lightning.utilities.paths import conf_dir

CONF = conf_dir()
EXPERIMENTS = sorted(
    str(p.relative_to(CONF / "experiment").with_suffix("")) for p in (CONF / "experiment").rglob("[!_]*.yaml")
)
CRD_PAIRS = {
    "wrn_40_2_wrn_16_2", "wrn_40_2_wrn_40_1", "resnet56_resnet20", "resnet110_resnet20", "resnet110_resnet32",
    "resnet32x4_resnet8x4", "vgg13_vgg8", "vgg13_MobileNetV2", "ResNet50_MobileNetV2", "ResNet50_vgg8",
    "resnet32x4_ShuffleV1", "resnet32x4_ShuffleV2", "wrn_40_2_ShuffleV1",
}  # fmt: skip


def choices(group: str) -> list[str]:
    return sorted(p.stem for p in (CONF / group).glob("*.yaml") if not p.stem.startswith("_"))


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", list(overrides), return_hydra_config=True)
    check(config)
    config.num_classes, config.num_samples = 10, 100
    with read_write(config.hydra.runtime):
        config.hydra.runtime.output_dir = "run"
    HydraConfig.instance().set_config(config)
    return config


@pytest.mark.parametrize("loss", choices("loss"))
def test_losses(loss: str) -> None:
    config = composed(f"loss={loss}")
    assert isinstance(instantiate(config.loss), nn.Module)
    mixup = instantiate(config.mixup)
    assert (mixup.probability > 0) == (loss in ("stkd", "ce_mixup", "mlkd", "mlkd_standardization"))


def test_mixing_on_the_command_line_wins() -> None:
    assert instantiate(composed("loss=kd", "mixup=beta").mixup).probability == 1
    assert instantiate(composed("loss=stkd", "mixup=none").mixup).probability == 0
    assert instantiate(composed("loss=kd", "experiment=quickstart").mixup).probability == 0


@pytest.mark.parametrize("group", ["student", "teacher"])
@pytest.mark.parametrize("name", list_models())
def test_networks(group: str, name: str) -> None:
    config = composed(f"{group}={name}")
    node = config.student if group == "student" else config.teacher.network
    assert node.name == name
    with torch.device("meta"):
        assert isinstance(instantiate(without_start(node)), nn.Module)


def test_the_zoo_is_the_choice() -> None:
    libraries = {"huggingface", "smp", "timm", "torchvision", "torchvision_segmentation"}
    others = libraries | {"cnn", "crnn", "custom", "dilated_resnet"}
    assert set(choices("student")) == set(list_models()) | others
    assert set(choices("teacher")) == set(list_models()) | others | {"chain", "ensemble"}


@pytest.mark.parametrize(("group", "width"), [("student", 8), ("teacher", 24)])
def test_dilated_resnet(group: str, width: int) -> None:
    config = composed(f"{group}=dilated_resnet")
    node = config.student if group == "student" else config.teacher.network
    assert node.width == width
    assert instantiate(without_start(node))(torch.randn(2, 3, 24, 16)).shape == (2, 10, 24, 16)


@pytest.mark.parametrize(
    "options",
    [
        {"": "smp", ".name": "FPN", ".encoder": "resnet18"},
        {"": "torchvision_segmentation", ".name": "lraspp_mobilenet_v3_large"},
    ],
    ids=["smp", "torchvision"],
)
@pytest.mark.parametrize(("group", "prefix"), [("student", "student"), ("teacher", "teacher.network")])
def test_segmentation_networks_of_libraries(options: dict[str, str], group: str, prefix: str) -> None:
    config = composed(*(f"{prefix if name else group}{name}={value}" for name, value in options.items()))
    node = config.student if group == "student" else config.teacher.network
    with torch.no_grad():
        assert instantiate(without_start(node)).eval()(torch.randn(1, 3, 40, 50)).shape == (1, 10, 40, 50)


def test_other_networks() -> None:
    for name, own in (("timm", "resnet10t"), ("torchvision", "mobilenet_v3_small")):
        for group, prefix in (("student", "student"), ("teacher", "teacher.network")):
            config = composed(f"{group}={name}", f"{prefix}.name={own}")
            node = config.student if group == "student" else config.teacher.network
            assert instantiate(without_start(node))(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    config = composed(
        "student=custom", "student._target_=torch.nn.Linear", "+student.in_features=3", "+student.out_features=2"
    )
    assert isinstance(instantiate(without_start(config.student)), nn.Linear)


@pytest.mark.parametrize("dataset", choices("dataset"))
def test_datasets(dataset: str) -> None:
    assert isinstance(instantiate(composed(f"dataset={dataset}").dataset), L.LightningDataModule)


@pytest.mark.parametrize("optimizer", choices("optimizer"))
def test_optimizers(optimizer: str) -> None:
    made = instantiate(composed(f"optimizer={optimizer}").optimizer)([nn.Parameter(torch.zeros(1))])
    assert isinstance(made, torch.optim.Optimizer)


@pytest.mark.parametrize("scheduler", choices("scheduler"))
def test_schedulers(scheduler: str) -> None:
    assert isinstance(instantiate(composed(f"scheduler={scheduler}").scheduler), MultiStep | Cosine | Polynomial)


@pytest.mark.parametrize("trainer", choices("trainer"))
def test_trainers(trainer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU's are built for the CPU, which is all that can be built without one."""
    if trainer == "slurm":
        for name, value in {"NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_ID": "1"}.items():
            monkeypatch.setenv(f"SLURM_{name}", value)
    config = composed(f"trainer={trainer}", "trainer.accelerator=cpu", "trainer.devices=1", "precision=32-true")
    assert isinstance(instantiate(config.trainer, logger=False), L.Trainer)


@pytest.mark.parametrize("logger", choices("logger"))
def test_loggers(logger: str, tmp_path: Path) -> None:
    for node in composed(f"logger={logger}", f"run_dir={tmp_path}").logger.values():
        assert hasattr(instantiate(node), "log_metrics")


@pytest.mark.parametrize("callbacks", choices("callbacks"))
def test_callbacks(callbacks: str) -> None:
    assert all(
        isinstance(instantiate(node), L.Callback) for node in composed(f"callbacks={callbacks}").callbacks.values()
    )


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments(experiment: str) -> None:
    config = composed(f"experiment={experiment}")
    for node in (config.loss, config.mixup, config.dataset, config.scheduler):
        instantiate(node)
    with torch.device("meta"):
        for node in (config.student, config.teacher.network):
            instantiate(without_start(node))  # pretrained weights would be downloaded
    if experiment.startswith("cifar100/"):
        assert f"{config.teacher.network.name}_{config.student.name}" == experiment.removeprefix("cifar100/")
        small = config.student.name in ("MobileNetV2", "ShuffleV1", "ShuffleV2")
        assert (config.optimizer.lr, config.teacher.lr or config.optimizer.lr) == (0.01 if small else 0.05, 0.05)


def test_the_pairs_are_those_of_the_benchmark() -> None:
    assert {e.removeprefix("cifar100/") for e in EXPERIMENTS if e.startswith("cifar100/")} == CRD_PAIRS


@pytest.mark.parametrize("pair", sorted(CRD_PAIRS))
def test_published_protocol(pair: str) -> None:
    usual, config = composed(f"experiment=cifar100/{pair}"), composed(f"experiment=[cifar100/{pair},published]")
    assert (usual.dataset.validation_fraction, config.dataset.validation_fraction) == (0.1, 0)
    assert (config.dataset.batch_size, config.precision, config.trainer.precision) == (64, "32-true", "32-true")
    assert (config.trainer.max_epochs, config.teacher.max_epochs) == (240, 240)
    for name in ("optimizer", "scheduler", "pair", "student", "loss", "mixup"):
        assert config[name] == usual[name]
    assert f"{config.teacher.network.name}_{config.student.name}" == pair


def test_published_protocol_of_other_experiments() -> None:
    config = composed("experiment=[quickstart,published]", "trainer.max_epochs=1")
    assert (config.trainer.max_epochs, config.teacher.max_epochs, config.dataset.validation_fraction) == (1, 1, 0)
    assert isinstance(instantiate(config.scheduler), MultiStep)


def test_the_teacher_follows_the_students_schedule_unless_told() -> None:
    config = composed("trainer.max_epochs=7", "optimizer=adamw", "scheduler=cosine")
    assert config.teacher.max_epochs == 7
    assert config.teacher.optimizer == config.optimizer
    assert config.teacher.scheduler == config.scheduler
    assert composed("trainer.max_epochs=7", "teacher.max_epochs=9").teacher.max_epochs == 9


def test_every_file_opens_with_what_it_is() -> None:
    for path in CONF.rglob("*.yaml"):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("# @package")]
        assert lines[0].startswith("# "), path


def test_commands_in_the_headers_compose() -> None:
    found = 0
    for path in CONF.rglob("*.yaml"):
        for line in path.read_text().splitlines():
            match = re.match(r"# (?:python -m stkd_lightning\.train )((?:-m )?\S+=.*)$", line)
            if match and "torchrun" not in line:
                composed(*[o for o in match.group(1).removeprefix("-m ").split() if "," not in o or "[" in o])
                found += 1
    assert found >= 16


def test_the_configuration_resolves_to_plain_values() -> None:
    config = composed("experiment=quickstart")
    plain: dict[str, Any] = {
        k: OmegaConf.to_container(config[k], resolve=True) for k in ("teacher", "optimizer", "dataset", "logger")
    }
    assert plain["teacher"]["lr"] == 0.05
    assert plain["teacher"]["optimizer"]["lr"] == plain["optimizer"]["lr"] == 0.02
    assert plain["dataset"]["seed"] == 0
    assert plain["logger"]["csv"]["folder"] == "run"
