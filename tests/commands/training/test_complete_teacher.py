"""The options of several teachers, as a run completes them."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.commands.config.teachers import check_teachers
from stkd_lightning.commands.training.ensemble import complete_teacher
from stkd_lightning.commands.training.loss_checks import check_loss
from stkd_lightning.commands.training.pretrain import plain
from stkd_lightning.reporting.run_options import result_options
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.paths import conf_dir

MEMBERS = ["teacher=ensemble", "+teacher@teacher.members.a=resnet8", "+teacher@teacher.members.b=resnet14"]


def settings(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", [*overrides, "run_dir=run", "method=kd"])
    config.num_classes, config.num_samples = 10, 100
    OmegaConf.set_readonly(config, True)
    return config


def test_members_take_what_they_leave_open() -> None:
    own = ["teacher.members.b.lr=0.3", "teacher.members.b.max_epochs=7", "teacher.members.b.max_steps=5"]
    shared = ["teacher.min_accuracy=0", "teacher.optimizer={_target_:torch.optim.SGD,lr:0.2}", "teacher.max_steps=9"]
    teacher = complete_teacher(settings("experiment=quickstart", *MEMBERS, *own, *shared)).teacher
    assert teacher.network.name == "resnet8 + resnet14"
    a, b = teacher.members.a, teacher.members.b
    assert (a.lr, a.max_epochs, a.max_steps, a.min_accuracy, a.optimizer.lr) == (0.05, 20, 9, 0, 0.2)
    assert (b.lr, b.max_epochs, b.max_steps, b.min_accuracy, b.optimizer.lr) == (0.3, 7, 5, 0, 0.2)


def test_members_of_members_take_them_too() -> None:
    inner = ["+teacher@teacher.members.b=ensemble", "+teacher@teacher.members.b.members.c=resnet20"]
    teacher = complete_teacher(settings("experiment=quickstart", *MEMBERS[:2], *inner)).teacher
    assert teacher.network.name == "resnet8 + resnet20"
    assert teacher.members.b.members.c.max_epochs == 20


def test_other_teachers_stay() -> None:
    config = settings("teacher=resnet8")
    assert complete_teacher(config) == config


@pytest.mark.parametrize(
    ("loss", "temperature"),
    [("kd", 4.0), ("stkd", 4.0), ("dkd", 4.0), ("ce", 1.0), ("kd loss.temperature=2.5", 2.5)],
)
def test_temperature_is_that_of_the_loss(loss: str, temperature: float) -> None:
    assert complete_teacher(settings(*f"loss={loss}".split(), *MEMBERS)).teacher.temperature == temperature


def test_several_temperatures_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    several = ["loss=dkd", "+term@loss.losses.kd=kd", "loss.losses.kd.temperature=2", *MEMBERS]
    with pytest.raises(InputError, match="teacher.temperature: the loss has the temperatures 2 and 4; set the one"):
        complete_teacher(settings(*several))
    assert complete_teacher(settings(*several, "teacher.temperature=2")).teacher.temperature == 2
    assert (
        "teacher.temperature=2: the loss has 4, too, at which the ensemble is not the mean" in capsys.readouterr().out
    )


def test_standardized_logits_are_no_mean(capsys: pytest.CaptureFixture[str]) -> None:
    complete_teacher(settings("loss=logit_standardization", *MEMBERS))
    assert "teacher: the loss standardizes logits, so the ensemble is not the mean" in capsys.readouterr().out


@pytest.mark.parametrize(("loss", "others"), [("nkd", "1"), ("wttm", "1"), ("mlkd", "2 and 3 and 5 and 6")])
def test_other_temperatures_are_named(loss: str, others: str, capsys: pytest.CaptureFixture[str]) -> None:
    complete_teacher(settings(f"loss={loss}", *MEMBERS))
    assert f"the loss has {others}, too, at which the ensemble is not the mean" in capsys.readouterr().out


def test_options_of_the_whole_ensemble_are_not_those_of_a_member() -> None:
    with pytest.raises(
        InputError, match="teacher.members.a.look_ahead: is an option of the ensemble; set teacher.look"
    ):
        check_teachers(settings("loss=kd", *MEMBERS, "teacher.members.a.look_ahead=2"))


@pytest.mark.parametrize("loss", ["sp", "fitnet", "crd", "simkd", "spirit", "kd_iusp"])
def test_losses_that_read_layers_are_refused(loss: str) -> None:
    with pytest.raises(InputError, match="reads layers of the teacher, and teacher=ensemble has none; try loss=kd"):
        check_loss(settings(f"loss={loss}", *MEMBERS))
    check_loss(settings("loss=kd", *MEMBERS))


def test_places_of_members_do_not_change_a_run() -> None:
    """They are compared by the digest of the networks."""
    places = [f"teacher.members.a.{option}" for option in ("checkpoint=a.pth", "replay=true", "min_accuracy=0")]
    plainly, moved = (result_options(plain(settings(*MEMBERS, *more))) for more in ([], places))
    assert plainly == moved
    assert plainly != result_options(plain(settings(*MEMBERS, "teacher.members.a.seed=1")))
