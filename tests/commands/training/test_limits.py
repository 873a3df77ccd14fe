"""How many batches and steps a run and its teacher take."""

from typing import Any, cast

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.commands.training.limits import check_limits, count_steps, teacher_trainer
from stkd_lightning.commands.training.stages import baseline_recipe
from stkd_lightning.data import DigitsDataModule
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.paths import conf_dir


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 300),
        ({"limit_train_batches": 7}, 21),
        ({"limit_train_batches": 0.5}, 150),
        ({"overfit_batches": 2, "limit_train_batches": 7}, 6),
        ({"limit_train_batches": None, "max_steps": 40}, 40),
        ({"max_steps": -1}, 300),
    ],
)
def test_count_steps(limits: dict[str, float], expected: int) -> None:
    assert count_steps(OmegaConf.create({"max_epochs": 3, **limits}), 100) == expected


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"limit_train_batches": 0.01}, "trainer.limit_train_batches=0.01: is less than one of 18 batches"),
        ({"limit_val_batches": 0.1}, "trainer.limit_val_batches=0.1: is less than one of 1 batches"),
        ({"limit_test_batches": 0.1}, "trainer.limit_test_batches=0.1: is less than one of "),
        ({"overfit_batches": 0.1}, "trainer.overfit_batches=0.1: is less than one of 1 batches"),
        ({"val_check_interval": 19}, "trainer.val_check_interval=19: an epoch has only 18 batches"),
    ],
)
def test_check_limits_refuses_less_than_a_batch(limits: dict[str, Any], words: str) -> None:
    data = DigitsDataModule()
    data.prepare_data()
    check_limits(OmegaConf.create({"limit_train_batches": 0.5, "limit_val_batches": 0, "max_epochs": 1}), data)
    with pytest.raises(InputError) as caught:
        check_limits(OmegaConf.create({"check_val_every_n_epoch": 1, **limits}), data)
    assert words in str(caught.value)


def test_check_limits_refuses_more_ranks_than_images() -> None:
    data = DigitsDataModule(validation_fraction=0.01)
    data.prepare_data()
    images = data.image_counts["validation"]
    check_limits(OmegaConf.create({}), data, ranks=images)
    check_limits(OmegaConf.create({"limit_val_batches": 0}), data, ranks=images + 1)
    with pytest.raises(InputError, match=f"{images + 1} ranks cannot share {images} val images; use {images} at most"):
        check_limits(OmegaConf.create({}), data, ranks=images + 1)


def settings(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", ["experiment=quickstart", "run_dir=run", "method=stkd", *overrides])


def test_the_students_limits_do_not_shorten_the_teacher() -> None:
    """The teacher's node, and so its key in the cache, is that of a run without limits."""
    cuts = ["trainer.max_steps=3", "trainer.limit_train_batches=2", "+trainer.overfit_batches=1", "+trainer.max_time=0"]
    plain, cut = settings(), settings(*cuts)
    OmegaConf.set_readonly(cut, True)
    assert teacher_trainer(cut) == teacher_trainer(plain)
    assert teacher_trainer(cut).max_epochs == 20
    assert OmegaConf.is_readonly(cut)
    assert cut.trainer.max_time == 0
    baseline = cast(Any, baseline_recipe(cut).trainer)
    assert (baseline.max_steps, baseline.limit_train_batches, baseline.overfit_batches) == (3, 2, 1)


def test_the_teacher_has_limits_of_its_own() -> None:
    trainer = teacher_trainer(settings("teacher.max_steps=5", "teacher.limit_train_batches=0.5"))
    assert (trainer.max_steps, trainer.limit_train_batches) == (5, 0.5)
