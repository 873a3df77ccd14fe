"""Train and test a network: the same steps for teachers, baselines and students."""

import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from stkd_lightning.callbacks import Checkpoints, Throughput
from stkd_lightning.commands.training.rank_watchdog import watch_ranks
from stkd_lightning.commands.training.ranks import keep_own_buffers
from stkd_lightning.distillation.module import DistillationModule
from stkd_lightning.models.weights import read_checkpoint
from stkd_lightning.utilities import signals
from stkd_lightning.utilities.console import warn
from stkd_lightning.utilities.distributed import leave_at_exit
from stkd_lightning.utilities.errors import InputError, RunError
from stkd_lightning.utilities.files import BEFORE, BEST

Figures = dict[str, float]


@dataclass(frozen=True)
class Fitted:
    """Results of a training run.

    Attributes:
        test: metrics of the ``last`` and of the ``selected`` student on the test images.
        validation: metrics of the last student on the validation images; empty without validation images.
        selected_epoch: epoch, counted from 0, of the student with the best validation score.
        images_per_second: speed of training.
        seconds: duration of training, without validation.
    """

    test: dict[str, Figures]
    validation: Figures
    selected_epoch: int
    images_per_second: float
    seconds: float

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> "Fitted":
        """Read the result of ``dataclasses.asdict``.

        Raises:
            LookupError, TypeError, ValueError, AttributeError: the content has another form.
        """
        test = {name: _without_prefix(content["test"][name], "") for name in ("last", "selected")}
        return cls(
            test,
            _without_prefix(content["validation"], ""),
            int(content["selected_epoch"]),
            float(content["images_per_second"]),
            float(content["seconds"]),
        )


def quiet() -> None:
    """Hide Lightning's hints about deliberate settings from the terminal."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns without a CUDA toolkit
    for text in (
        ".*does not have many workers.*",
        ".*log_every_n_steps.*",
        ".*exists and is not empty.*",
        ".*Experiment logs directory.*",
        ".*GPU available but not used.*",
        ".*LeafSpec.*",
        ".*Total length of .* across ranks is zero.*",  # no validation images, as was asked for
        ".*TensorFloat32 tensor cores.*",
        ".*settings to control TF32.*",
        ".*Grad strides do not match bucket view strides.*",  # for 1x1 kernels, whose two layouts are equal
    ):
        warnings.filterwarnings("ignore", message=text)


def with_bar(trainer: DictConfig, callbacks: list[L.Callback]) -> list[L.Callback]:
    """Return callbacks without progress bars if ``trainer.enable_progress_bar`` is false."""
    shown = trainer.get("enable_progress_bar") is not False
    return [c for c in callbacks if shown or not isinstance(c, ProgressBar)]


def fit_and_test(
    module: DistillationModule, data: L.LightningDataModule, trainer: L.Trainer, checkpoint: Path | None = None
) -> Fitted:
    """Train, validate the last student if training did not, then test the last and the selected student.

    Args:
        module: trained in place; has the last weights afterwards.
        data: training and test batches, and perhaps validation batches.
        trainer: has the callbacks ``Checkpoints`` and ``Throughput``.
        checkpoint: checkpoint of this run to resume from; ``None``: a new run.

    Raises:
        Interrupted: the process received a signal to end.
        RunError: the run failed, perhaps on another rank; names the checkpoint from which it can resume.
    """
    callbacks: Sequence[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    checkpoints = next(c for c in callbacks if isinstance(c, Checkpoints))
    throughput = next(c for c in callbacks if isinstance(c, Throughput))
    try:
        leave_at_exit()
        keep_own_buffers(trainer)
        with watch_ranks(trainer):
            with signals.deferred():
                trainer.fit(module, data, ckpt_path=checkpoint)
            _validate_last(module, data, trainer, checkpoints)
            epoch = trainer.current_epoch - 1
            test = {"last": _test(module, data, trainer)}
            test["selected"] = test["last"]
            if selected := _selected(checkpoints, trainer):
                last = {k: v.clone() for k, v in module.state_dict().items()}
                module.load_state_dict(selected)
                test["selected"] = _test(module, data, trainer)
                module.load_state_dict(last)
            if selected or checkpoints.best_step == trainer.global_step:
                epoch = cast(int, checkpoints.best_epoch)
    except RunError as error:
        kept = checkpoints.kept()
        message = str(error) if kept in str(error) else f"{error}; {kept}"
        raise RunError(message, passes=error.passes) from error
    finally:
        module.abandon()
    if trainer.is_global_zero:
        (checkpoints.folder / BEFORE).unlink(missing_ok=True)
    return Fitted(test, checkpoints.validation, epoch, throughput.images_per_second, throughput.seconds)


def _validate_last(
    module: DistillationModule, data: L.LightningDataModule, trainer: L.Trainer, checkpoints: Checkpoints
) -> None:
    """Validate the last student if training did not end with a validation, and log its figures for the last epoch."""
    stale = trainer.global_step > 0 and checkpoints.validated_step != trainer.global_step
    if checkpoints.select and trainer.enable_validation and stale:
        with _without_loggers(trainer):  # they would show the figures in an epoch after the last
            trainer.validate(module, data, verbose=False)
        figures = {f"val/{name}": value for name, value in checkpoints.validation.items()}
        for logger in trainer.loggers:
            logger.log_metrics({**figures, "epoch": trainer.current_epoch - 1}, step=trainer.global_step - 1)
            logger.save()
    checkpoints.select_last(trainer)


@contextmanager
def _without_loggers(trainer: L.Trainer) -> Iterator[None]:
    loggers: list[Logger] = trainer.loggers
    trainer.loggers = []
    try:
        yield
    finally:
        trainer.loggers = loggers


def _selected(checkpoints: Checkpoints, trainer: L.Trainer) -> dict[str, Any] | None:
    """Return the selected student's weights; ``None`` if there are none, they are the last, or they are lost."""
    if checkpoints.best_epoch is None or checkpoints.best_step == trainer.global_step:
        return None
    try:
        content = read_checkpoint(checkpoints.folder / BEST)
        if content["global_step"] == checkpoints.best_step:
            return content["state_dict"]
        cause = f"{BEST} is of step {content['global_step']}, not {checkpoints.best_step}"
    except InputError as error:
        cause = str(error)
    warn(f"the selected student is lost ({cause}); the last student is used instead")
    return None


def _without_prefix(metrics: Mapping[str, Any], prefix: str) -> Figures:
    figures = {k.removeprefix(prefix): float(v) for k, v in metrics.items() if k.startswith(prefix)}
    # The figure of a class that does not occur is not defined, and JSON has no NaN.
    return {name: value for name, value in figures.items() if not ("/" in name and math.isnan(value))}


def _test(module: DistillationModule, data: L.LightningDataModule, trainer: L.Trainer) -> Figures:
    """Test without loggers; they receive both results at the end of the run."""
    with _without_loggers(trainer):
        return _without_prefix(trainer.test(module, data, verbose=False)[0], "test/")
