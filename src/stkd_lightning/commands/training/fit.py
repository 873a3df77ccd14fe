"""One training run from first step to test figures, the same for teachers, baselines and students."""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from stkd_lightning.callbacks import Checkpoints, Throughput
from stkd_lightning.commands.training.rank_watchdog import watch_ranks
from stkd_lightning.distillation.module import DistillationModule
from stkd_lightning.models.weights import read_checkpoint
from stkd_lightning.utilities import signals
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError, RunError
from stkd_lightning.utilities.files import BEFORE, BEST

Figures = dict[str, float]


@dataclass(frozen=True)
class Fitted:
    """What a training run ended with.

    Attributes:
        test: figures of the ``last`` and of the ``selected`` student on the test images.
        validation: figures of the last student on the validation images; empty where there are none.
        selected_epoch: epoch, counted from 0, of the student with the best validation accuracy.
        images_per_second: of training.
        seconds: of training, without validation.
    """

    test: dict[str, Figures]
    validation: Figures
    selected_epoch: int
    images_per_second: float
    seconds: float


def quiet() -> None:
    """Keep Lightning's hints about things that are as they are on purpose from the terminal."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it looks for a CUDA toolkit on any machine
    for text in (
        ".*does not have many workers.*",
        ".*log_every_n_steps.*",
        ".*exists and is not empty.*",
        ".*Experiment logs directory.*",
        ".*GPU available but not used.*",
        ".*LeafSpec.*",
        ".*Total length of .* across ranks is zero.*",  # no validation images, as was asked for
        ".*TensorFloat32 tensor cores.*",
        ".*Grad strides do not match bucket view strides.*",  # of 1x1 kernels, for which both layouts are one
    ):
        warnings.filterwarnings("ignore", message=text)


def fit_and_test(
    module: DistillationModule, data: L.LightningDataModule, trainer: L.Trainer, checkpoint: Path | None = None
) -> Fitted:
    """Train, then test once with the last and once with the selected student.

    Args:
        module: trained in place; ends with the last weights.
        data: gives training, test and perhaps validation batches.
        trainer: carries a ``Checkpoints`` and a ``Throughput``.
        checkpoint: of this run, to go on from.

    Raises:
        Interrupted: the process was asked to end.
        RunError: a fault, perhaps of another rank; says from which checkpoint the run can go on.
    """
    callbacks: Sequence[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    kept = next(c for c in callbacks if isinstance(c, Checkpoints))
    speed = next(c for c in callbacks if isinstance(c, Throughput))
    try:
        with watch_ranks(trainer):
            with signals.deferred():
                trainer.fit(module, data, ckpt_path=checkpoint)
            epoch = trainer.current_epoch - 1
            test = {"last": _test(module, data, trainer)}
            test["selected"] = test["last"]
            if selected := _selected(kept, trainer):
                last = {k: v.clone() for k, v in module.state_dict().items()}
                module.load_state_dict(selected)
                test["selected"] = _test(module, data, trainer)
                module.load_state_dict(last)
            if selected or kept.best_step == trainer.global_step:
                epoch = cast(int, kept.best_epoch)
    except RunError as error:
        words = str(error) if kept.kept() in str(error) else f"{error}; {kept.kept()}"
        raise RunError(words, passes=error.passes) from error
    finally:
        module.abandon()
    if trainer.is_global_zero:
        (kept.folder / BEFORE).unlink(missing_ok=True)
    return Fitted(test, kept.validation, epoch, speed.images_per_second, speed.seconds)


def _selected(kept: Checkpoints, trainer: L.Trainer) -> dict[str, Any] | None:
    """Return the selected student's weights; ``None`` where none was selected, it is the last, or its file is lost."""
    if kept.best_epoch is None or kept.best_step == trainer.global_step:
        return None
    try:
        content = read_checkpoint(kept.folder / BEST)
        if content["global_step"] == kept.best_step:
            return content["state_dict"]
        fault = f"it is of step {content['global_step']}, not {kept.best_step}"
    except InputError as error:
        fault = str(error)
    print_rank_zero(f"[yellow]warning: the selected student is lost ({fault}); the last one stands for it[/yellow]")
    return None


def _named(metrics: Mapping[str, Any], prefix: str) -> Figures:
    return {k.removeprefix(prefix): float(v) for k, v in metrics.items() if k.startswith(prefix)}


def _test(module: DistillationModule, data: L.LightningDataModule, trainer: L.Trainer) -> Figures:
    """Test without the loggers, which get both results at the end."""
    loggers: list[Logger] = trainer.loggers
    trainer.loggers = []
    try:
        return _named(trainer.test(module, data, verbose=False)[0], "test/")
    finally:
        trainer.loggers = loggers


def try_settings(config: DictConfig) -> int:
    """Build the trainer and the optimizer for nothing, before anything is trained or written.

    Returns:
        The number of ranks.

    Raises:
        InputError: the machine has no such accelerator, or the libraries refuse an option.
    """
    nothing: dict[str, Any] = {"logger": False, "enable_checkpointing": False}
    if config.trainer.precision == "auto":
        nothing["precision"] = "32-true"  # decided later, for the networks
    ranks = _built("trainer", lambda: instantiate(config.trainer, **nothing).world_size)
    _built("optimizer", lambda: instantiate(config.optimizer)([torch.nn.Parameter(torch.zeros(1))]))
    _built("scheduler", lambda: instantiate(config.scheduler)(0.0))
    if config.dataset.batch_size % ranks:
        raise InputError(f"dataset.batch_size={config.dataset.batch_size}: {ranks} ranks cannot share it equally")
    return ranks


def _built(part: str, build: Callable[[], Any]) -> Any:
    try:
        return build()
    except Exception as error:  # whatever a library raises for an option
        cause = error.__cause__ or error
        if isinstance(cause, InputError):
            raise InputError(str(cause)) from error  # a cause of its own cause would have no end
        raise InputError(f"{part}: {type(cause).__name__}: {' '.join(str(cause).split())}") from error
