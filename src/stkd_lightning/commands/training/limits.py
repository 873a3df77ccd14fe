"""Limits of a run: the number of batches and steps that it takes."""

from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from stkd_lightning.data.loader import EvalLoader
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.utilities.errors import InputError

CUTS = ("overfit_batches", "max_time")  # further options of the trainer that end a training early


def limited(batches: int, limit: int | float | None) -> int:
    """Return the number of batches that a limit leaves: a number of batches, or a share of them."""
    if limit is None:
        return batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def count_steps(trainer: DictConfig, batches: int) -> int:
    """Return the number of steps of a run.

    Args:
        trainer: node with ``max_epochs``, and perhaps ``max_steps``, ``limit_train_batches`` and ``overfit_batches``.
        batches: number of batches in an epoch of the loader.
    """
    batches = limited(batches, trainer.get("overfit_batches") or trainer.get("limit_train_batches"))
    steps = batches * int(trainer.max_epochs)
    max_steps = trainer.get("max_steps", -1)
    return min(steps, max_steps) if max_steps >= 0 else steps


def check_limits(trainer: DictConfig, data: ArrayDataModule, ranks: int = 1) -> None:
    """Refuse limits that do not fit the number of batches, which Lightning would find after other trainings.

    Raises:
        InputError: a share of the batches is less than one, an epoch is shorter than the interval of validation, or an
            evaluation has fewer images than ranks.
    """
    loaders: dict[str, Any] = {
        "train": data.train_dataloader(),
        "val": data.val_dataloader(),
        "test": data.test_dataloader(),
    }
    for stage, loader in loaders.items():
        overfit = stage != "test" and trainer.get("overfit_batches")
        option, batches = "overfit_batches" if overfit else f"limit_{stage}_batches", len(loader)
        limit = trainer.get(option)
        if batches and limit and not limited(batches, limit):
            raise InputError(f"trainer.{option}={limit}: is less than one of {batches} batches; the nearest is 1")
        images = len(loader.indices) if isinstance(loader, EvalLoader) and limit != 0 else 0
        if 0 < images < ranks:
            raise InputError(
                f"trainer.devices: {ranks} ranks cannot share {images} {stage} images; use {images} at most"
            )
    every = trainer.get("val_check_interval")
    batches = limited(len(loaders["train"]), trainer.get("overfit_batches") or trainer.get("limit_train_batches"))
    if isinstance(every, int) and every > batches and trainer.get("check_val_every_n_epoch") is not None:
        raise InputError(f"trainer.val_check_interval={every}: an epoch has only {batches} batches")


def other_trainer(settings: DictConfig, training: DictConfig) -> DictConfig:
    """Return the node of the trainer for another training of a run, which the student's limits do not shorten.

    Args:
        settings: of the run.
        training: node with ``max_epochs``, ``max_steps`` and ``limit_train_batches``.
    """
    names = ("max_epochs", "max_steps", "limit_train_batches")
    trainer = cast(DictConfig, OmegaConf.merge(settings.trainer, {name: training[name] for name in names}))
    OmegaConf.set_readonly(trainer, False)
    OmegaConf.set_struct(trainer, False)
    for name in CUTS:
        trainer.pop(name, None)
    return trainer


def teacher_trainer(settings: DictConfig) -> DictConfig:
    """Return the node of the trainer for the teacher's own training."""
    return other_trainer(settings, settings.teacher)
