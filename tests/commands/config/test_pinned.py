"""What a change of the layout must not change: composed configurations, and keys of what is kept between runs."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.commands.training import replay, stages
from stkd_lightning.commands.training.pretrain import Recipe, plain
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.reporting.run_options import result_options
from stkd_lightning.tasks import Classification
from stkd_lightning.teacher import FrozenTeacher
from stkd_lightning.utilities.paths import cache_root, conf_dir, key_of
from tests.commands.config.composed import FILE, everything

QUICKSTART = ["experiment=quickstart"]
CIFAR100 = ["dataset=cifar100", "teacher=resnet20", "student=resnet8"]


def test_configurations_compose_as_they_did() -> None:
    expected, found = json.loads(FILE.read_text()), json.loads(json.dumps(everything()))
    assert found.keys() == expected.keys()
    for name, options in expected.items():
        assert found[name] == options, name


def settings(overrides: list[str]) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", [*overrides, "precision=32-true", "run_dir=run", "method=stkd"])
    config.num_classes, config.num_samples = 10, 100
    return config


@pytest.mark.parametrize(
    ("overrides", "teacher", "baseline"),
    [(QUICKSTART, "1fd79be4341db0cc", "3450a0282fdf8895"), (CIFAR100, "d6793d49f3a0eeb1", "c12876dccb4bd2f2")],
)
def test_keys_of_trained_networks(
    overrides: list[str], teacher: str, baseline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Recipe] = []
    monkeypatch.setattr(stages.teachers, "obtain", lambda node, recipe, *rest, **options: seen.append(recipe))
    config = settings(overrides)
    data = cast(ArrayDataModule, SimpleNamespace(arrays=SimpleNamespace(digest="0" * 16)))
    stages.find_teacher(config, data, needed=True)
    assert seen[0].key(data) == teacher
    assert stages.baseline_recipe(config).key(data) == baseline


def test_keys_do_not_depend_on_errors_of_images() -> None:
    data = cast(ArrayDataModule, SimpleNamespace(arrays=SimpleNamespace(digest="0" * 16)))
    configs = [
        settings(["dataset=image_folder", *CIFAR100[1:], f"dataset.on_error={how}"]) for how in ("refuse", "skip")
    ]
    options = {k: v for k, v in plain(configs[0]).items() if k != "dataset"}
    older = {k: v for k, v in plain(configs[0])["dataset"].items() if k != "on_error"}
    configs.append(OmegaConf.create({**options, "dataset": older}))
    assert len({stages.baseline_recipe(config).key(data) for config in configs}) == 1
    assert len({key_of(result_options(plain(config))) for config in configs}) == 1


def test_keys_of_a_share_of_the_images() -> None:
    """All images are the same images whatever the seed of the share is, and a teacher may train on all."""

    def key(*overrides: str) -> str:
        recipes: list[Recipe] = []

        def obtain(node: DictConfig, recipe: Recipe, *rest: object, **options: object) -> None:
            recipes.append(recipe)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stages.teachers, "obtain", obtain)
            patch.setattr(stages, "data_like", lambda data, dataset, name: data)
            stages.find_teacher(settings([*CIFAR100, *overrides]), DATA, needed=True)
        return recipes[0].key(DATA)

    share = "dataset.train_fraction=0.1"
    assert key() == key("dataset.train_seed=5") == key(share, "teacher.dataset={train_fraction: 1}")
    assert len({key(), key(share, "dataset.train_seed=1"), key(share, "dataset.train_seed=2")}) == 3
    options = [
        result_options(plain(settings([*CIFAR100, *more])))
        for more in ([], ["dataset.train_seed=5"], [share], [share, "dataset.train_seed=5"])
    ]
    assert options[0] == options[1] != options[2] != options[3]


DATA = cast(
    Any,
    SimpleNamespace(
        arrays=SimpleNamespace(digest="0" * 16), num_classes=10, input_shape=(3, 32, 32), task=Classification()
    ),
)
TEACHER = cast(FrozenTeacher, SimpleNamespace(digest="1" * 64, dtype=None))


@pytest.mark.parametrize(("overrides", "key"), [(QUICKSTART, "f541aa6a19441e75"), (CIFAR100, "a7b5af9eea929fac")])
def test_keys_of_replay(overrides: list[str], key: str, tmp_path: Path) -> None:
    config = settings([*overrides, f"cache_dir={tmp_path}"])
    replay.replay_folder(config, DATA, TEACHER, ranks=1, batches=10)
    assert [p.name for p in (cache_root(config.cache_dir) / "replay").iterdir()] == [key]


def test_look_ahead_is_part_of_the_key_of_replay(tmp_path: Path) -> None:
    """Logits of a larger batch are rounded otherwise."""
    for i, steps in enumerate((1, 2, 4)):
        test_keys = [*QUICKSTART, f"cache_dir={tmp_path}", f"teacher.look_ahead={steps}"]
        replay.replay_folder(settings(test_keys), DATA, TEACHER, ranks=1, batches=10)
        assert len(list((cache_root(tmp_path) / "replay").iterdir())) == i + 1


@pytest.mark.parametrize(("overrides", "key"), [(QUICKSTART, "c8dcf80484f865ad"), (CIFAR100, "c9b2e4856c8a34a9")])
def test_options_that_resume_and_reports_compare(overrides: list[str], key: str) -> None:
    assert key_of(result_options(plain(settings(overrides)))) == key
