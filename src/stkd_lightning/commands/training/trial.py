"""Try the trainer, the optimizer, the schedule and the callbacks of a run, before anything is trained or written."""

import os
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import lightning as L
import torch
from hydra.utils import get_class, instantiate
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities.seed import isolate_rng
from omegaconf import DictConfig
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from stkd_lightning.commands.config.teachers import teachers_of
from stkd_lightning.commands.training.devices import first_device
from stkd_lightning.commands.training.optimizer import optimizer_factory
from stkd_lightning.commands.training.precision import device_type, has_bfloat16
from stkd_lightning.commands.training.ranks import check_ranks
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.distillation.module import DistillationModule
from stkd_lightning.losses import KDLoss
from stkd_lightning.reporting.loggers.metrics_csv import MetricsFile
from stkd_lightning.teacher.frozen import FrozenTeacher
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.rank import process_rank

KNOWN = ("lightning.", "stkd_lightning.")  # packages whose callbacks fit any network

# Prefixes of the environment's variables by which a process finds the other machines.
LAUNCHERS = ("MASTER_ADDR", "SLURM_", "OMPI_", "PMI_", "LSB_")

# One step that shows and writes nothing, on one device.
TRIAL: dict[str, Any] = {
    "num_nodes": 1, "strategy": "auto", "max_epochs": 1, "min_epochs": None, "max_steps": -1,
    "min_steps": None, "limit_train_batches": 1, "overfit_batches": 0, "val_check_interval": None,
    "check_val_every_n_epoch": 1, "num_sanity_val_steps": 0, "log_every_n_steps": 1, "enable_checkpointing": False,
    "enable_progress_bar": False, "enable_model_summary": False, "profiler": None,
}  # fmt: skip


def try_settings(config: DictConfig) -> int:
    """Build the trainer, optimizer and schedule, and train a toy network for one step with them and the callbacks.

    Args:
        config: checked settings.

    Returns:
        The number of ranks.

    Raises:
        InputError: the accelerator does not exist, the libraries refuse an option or a combination of options, or
            the ranks cannot share a batch.
    """
    nodes = config.trainer.num_nodes
    if nodes > 1 and not config.trainer.get("plugins") and not any(name.startswith(LAUNCHERS) for name in os.environ):
        raise InputError(f"trainer.num_nodes={nodes}: start the command on each machine with torchrun or srun")
    precision = config.trainer.precision
    if precision == "auto":  # resolved later, for the networks
        precision = "bf16-mixed" if has_bfloat16(device_type(config.trainer)) else "32-true"
    options = {"precision": precision, "logger": False, "enable_checkpointing": False}
    trainer: L.Trainer = _build("trainer", partial(instantiate, config.trainer, **options))
    trainings = {"": config, "feature_distillation.": config.feature_distillation}
    trainings |= {f"{name}.": node for name, node in teachers_of(config)}
    for part, settings in ((part, node) for part, node in trainings.items() if node is not None):
        _build(f"{part}optimizer", _make_optimizer, settings.optimizer)
        _build(f"{part}scheduler", _make_schedule, settings.scheduler)
    callbacks = {name: _build(f"callbacks.{name}", instantiate, node) for name, node in config.callbacks.items()}
    check_ranks(trainer, config)
    if process_rank() == 0:
        _build("one step of a toy network", _try_step, config, callbacks, precision)
    return trainer.world_size


def _try_step(config: DictConfig, callbacks: dict[str, L.Callback], precision: str) -> None:
    """Train a toy network for one step; the global random state stays."""
    known = {name for name, node in config.callbacks.items() if node._target_.startswith(KNOWN)}
    classifies = getattr(get_class(config.dataset._target_), "task", None) is ArrayDataModule.task
    own = ("train/",) if classifies else ("train/", "val/")  # the toy network classifies
    tried = [callback for name, callback in callbacks.items() if name in known and _can_try(callback, own)]
    with isolate_rng(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        trainer: L.Trainer = instantiate(
            config.trainer,
            **TRIAL,
            devices=first_device(config.trainer.devices),
            precision=precision,
            logger=MetricsFile(folder) if config.logger else False,
            limit_val_batches=0 if config.trainer.get("limit_val_batches") == 0 else 1,
            plugins=[LightningEnvironment()],
            callbacks=tried,
            default_root_dir=folder,
        )
        module = DistillationModule(
            _toy(),
            KDLoss(),
            FrozenTeacher(_toy()),
            optimizer=optimizer_factory(config.optimizer),
            schedule=instantiate(config.scheduler),
        )
        batches = DataLoader(TensorDataset(torch.zeros(2, 3, 1, 1), torch.arange(2)), batch_size=2)
        trainer.fit(module, batches, batches)


def _can_try(callback: L.Callback, own: tuple[str, ...]) -> bool:
    """Return false for callbacks that write or show something, or that watch what only the run itself logs.

    Args:
        callback: of the run.
        own: beginnings of the names that the toy network does not log.
    """
    watches_own = str(getattr(callback, "monitor", "")).startswith(own)
    return not (isinstance(callback, Checkpoint | ProgressBar) or watches_own)


def _make_optimizer(node: DictConfig) -> None:
    optimizer_factory(node)([nn.Parameter(torch.zeros(1))])


def _make_schedule(node: DictConfig) -> None:
    instantiate(node)(0.0)


def _toy() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3, 2))


def _build(part: str, build: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return build(*arguments)
    except Exception as error:  # a library can raise anything for an option
        cause = error.__cause__ or error
        if isinstance(cause, InputError):
            raise InputError(str(cause)) from error  # from the outer error: a cycle of causes would never end
        raise InputError(f"{part}: {type(cause).__name__}: {' '.join(str(cause).split())}") from error
