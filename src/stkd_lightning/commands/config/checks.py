"""Checks of a composed configuration, made before torch is loaded."""

import os
from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stkd_lightning.commands.config.command_checks import check_cache, check_export, check_predict, check_report
from stkd_lightning.commands.config.compose import options
from stkd_lightning.commands.config.credentials import check_folder_names
from stkd_lightning.commands.config.hints import SMOKE
from stkd_lightning.commands.config.paths import resolve_paths
from stkd_lightning.commands.config.ranges import check_ranges
from stkd_lightning.commands.config.run_folder import has_time, is_sweep
from stkd_lightning.commands.config.student import check_start
from stkd_lightning.commands.config.teachers import check_teachers
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.batch_rows import batch_rows
from stkd_lightning.utilities.choices import ON_ERROR, POLICIES, PRECISIONS, SAMPLERS, STORAGES
from stkd_lightning.utilities.errors import InputError, reason, unknown
from stkd_lightning.utilities.files import check_exists, check_writable
from stkd_lightning.utilities.paths import cache_root

# Options of Lightning's Trainer that this project sets itself.
OUR_PART = {
    "logger": "is set by the group logger, for example logger=csv",
    "callbacks": "is set by the group callbacks; add one with +callbacks.NAME._target_=CLASS",
    "default_root_dir": "is the run's folder, hydra.run.dir",
    "enable_checkpointing": "must be true; a run is resumed and tested from its checkpoints",
}


def check(config: DictConfig) -> None:
    """Refuse a configuration that cannot run.

    Raises:
        InputError: an option has no value or is outside its range, or a folder cannot be written.
    """
    try:
        _check(config)
    except OmegaConfBaseException as error:  # a wrong interpolation is found when it is read
        message = str(error).partition("\n")[0]
        raise InputError(f"option {error.full_key or ''!r}: {message}") from error
    except InputError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:  # a value in place of a group
        raise InputError(f"configuration: a group has the wrong type ({reason(error)}); see --help") from error


def _check(config: DictConfig) -> None:
    _check_values(config)
    resolve_paths(config, Path.cwd())
    check_ranges(config)
    if "resume" in config and not (config.resume in (None, "auto") or config.resume is False):
        raise InputError(f"resume={config.resume}: must be auto, false or null")
    if "precision" in config and config.precision not in PRECISIONS:
        raise unknown("precision", str(config.precision), PRECISIONS)
    check_teachers(config)
    if isinstance(config.get("student"), DictConfig):
        check_start(config.student)
    if "checkpoint" in config and not Path(validation.path("checkpoint", config.checkpoint)).is_dir():
        check_exists(Path(config.checkpoint))
    if "push_to_hub" in config:
        check_export(config)
    if "images" in config:
        check_predict(config)
    if "runs" in config:
        check_report(config)
    if "prune" in config:
        check_cache(config)
    if "trust" in config:
        validation.switch("trust", config.trust)
    if "logger" in config:
        _check_packages(config.logger)
    if config.get("cache_dir") is not None:
        validation.path("cache_dir", config.cache_dir)
    if "dataset" in config:
        if config.dataset.get("sampler", SAMPLERS[0]) not in SAMPLERS:
            raise unknown("dataset.sampler", str(config.dataset.sampler), SAMPLERS)
        if config.dataset.get("on_error", ON_ERROR[0]) not in ON_ERROR:
            raise unknown("dataset.on_error", str(config.dataset.on_error), ON_ERROR)
        if config.dataset.get("storage", STORAGES[0]) not in STORAGES:
            raise unknown("dataset.storage", str(config.dataset.storage), STORAGES)
        policy = OmegaConf.select(config, "dataset.augment.policy")
        if policy not in (None, *POLICIES):
            raise unknown("dataset.augment.policy", str(policy), POLICIES)
        _check_trainer(config.trainer, config.dataset, config.get("deterministic", "auto"))
        if "hydra" in config:
            _check_shared_folder(config)
    if "hydra" in config:
        check_folder_names(config, sweep=is_sweep(config))
    for folder in output_folders(config):
        validation.path("output folder", str(folder))
        if "cache_dir" in config and folder == cache_root(config.cache_dir) and folder.is_dir():
            _check_readable(folder)  # it may hold all that is needed
        else:
            check_writable(folder)


def _check_readable(cache: Path) -> None:
    if not os.access(cache, os.R_OK | os.X_OK):
        raise InputError(f"cache {cache}: cannot be read; set cache_dir=FOLDER")


def _check_packages(loggers: DictConfig) -> None:
    """Refuse a dashboard whose package is not installed; the extra has the name of the logger."""
    for name, packages in (("tensorboard", ("tensorboard",)), ("mlflow", ("mlflow", "sqlalchemy", "alembic"))):
        if name in loggers and not all(map(find_spec, packages)):
            raise InputError(f"logger={name}: its package is not installed; run pip install 'stkd-lightning[{name}]'")


NEAR = 1024  # largest change of a batch size that is proposed


def check_shared(dataset: DictConfig, ranks: int) -> None:
    """Refuse batches that the ranks cannot share equally.

    Raises:
        InputError: names the nearest batch size.
    """
    size, ratio = dataset.get("batch_size"), dataset.get("unlabeled_ratio")
    if not isinstance(size, int) or batch_rows(size, ratio) % ranks == 0:
        return
    if not ratio:
        nearest = max(ranks, round(size / ranks) * ranks)
        raise InputError(
            f"dataset.batch_size={size}: must be a multiple of the {ranks} ranks; the nearest is {nearest}"
        )
    near = (other for distance in range(1, NEAR) for other in (size - distance, size + distance) if other > 0)
    shared = next((other for other in near if batch_rows(other, ratio) % ranks == 0), None)
    advice = "set 0" if shared is None else f"the nearest batch size is {shared}"
    raise InputError(
        f"dataset.unlabeled_ratio={ratio}: {ranks} ranks cannot share a batch of {batch_rows(size, ratio)} images; "
        f"{advice}"
    )


def _check_trainer(trainer: DictConfig, dataset: DictConfig, deterministic: bool | str) -> None:
    devices, nodes = trainer.get("devices"), trainer.get("num_nodes", 1)
    ranks = devices * nodes if isinstance(devices, int) and isinstance(nodes, int) else 0
    if ranks > 1:
        check_shared(dataset, ranks)
    for name, instead in OUR_PART.items():
        if trainer.get(name) is not None and trainer[name] is not True:
            raise InputError(f"trainer.{name}: {instead}")
    for name in ("deterministic", "benchmark"):
        if trainer.get(name) is not None and deterministic != "auto":
            raise InputError(
                f"trainer.{name}={trainer[name]}: contradicts deterministic={str(deterministic).lower()}; "
                "set only one of them"
            )
    if trainer.get("fast_dev_run"):
        raise InputError(f"trainer.fast_dev_run: writes no checkpoint; {SMOKE} runs one batch of everything")


def _check_shared_folder(config: DictConfig) -> None:
    """Refuse a folder whose name contains the time if torchrun or srun starts the ranks: their clocks may differ."""
    ranks = os.environ.get("WORLD_SIZE" if "TORCHELASTIC_RUN_ID" in os.environ else "SLURM_STEP_NUM_TASKS", "1")
    mode = "sweep" if is_sweep(config) else "run"
    if ranks != "1" and config.trainer.get("strategy") not in (None, "auto") and has_time(config):
        raise InputError(
            f"hydra.{mode}.dir: contains the time, which can differ between the {ranks} processes; "
            f"set one folder for all: hydra.{mode}.dir=outputs/NAME"
        )


def _check_values(config: DictConfig) -> None:
    set_later = {"num_classes", "num_samples"}
    for name in options(config):
        if (
            name not in set_later
            and not name.startswith("hydra.")
            and OmegaConf.is_missing(*_parent_and_key(config, name))
        ):
            raise InputError(f"option {name!r}: has no value; set {name}=VALUE")


def _parent_and_key(config: DictConfig, name: str) -> tuple[DictConfig, str]:
    parent, _, key = name.rpartition(".")
    return (OmegaConf.select(config, parent) if parent else config), key


def output_folders(config: DictConfig) -> list[Path]:
    """Return the folders that a job writes to: Hydra's output folder and the cache."""
    hydra = config.hydra
    folders = [Path(hydra.sweep.dir if is_sweep(config) else hydra.run.dir).expanduser()]
    return [*folders, cache_root(config.cache_dir)] if "cache_dir" in config else folders
