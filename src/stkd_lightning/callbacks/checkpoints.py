"""Checkpoints of the last and the best student; a resumed run equals an uninterrupted run."""

import time
from collections.abc import Callable
from pathlib import Path
from signal import Signals
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from stkd_lightning.callbacks.checkpoint_io import SealedCheckpointIO
from stkd_lightning.callbacks.loop_state import at_epoch_end, between_batches
from stkd_lightning.data.loader import TrainLoader
from stkd_lightning.distillation.module import DistillationModule
from stkd_lightning.reporting.loggers.metrics_csv import MetricsFile
from stkd_lightning.tasks.base import Score
from stkd_lightning.utilities import signals
from stkd_lightning.utilities.errors import RunError
from stkd_lightning.utilities.exchange import Exchange
from stkd_lightning.utilities.files import BEFORE, BEST, LAST, last_kept, link_or_copy

BEST_SCORE = "best_accuracy"  # name of the best score in checkpoints, for every task
NEWER_FIELDS = {"validated_step"}  # of the state; checkpoints of earlier versions lack them
AGREE = 8  # batches from the start of an exchange among ranks, about signals and due checkpoints, to its reading


class Checkpoints(Checkpoint):
    """Writes ``last.ckpt`` at each epoch's end, every few minutes and on a signal to end; writes ``best.ckpt``.

    The checkpoint before the last stays until the run ends. A checkpoint has everything that a resumed run needs, also
    which student was the best and the number of rows in the metrics file. Nothing is saved during a batch or a
    validation. After a signal to end (``utilities.signals``) the run ends after the current batch.

    With this project's data modules a run resumes exactly; with another loader its epoch starts again. The trainer's
    ``CheckpointIO`` is replaced.

    Args:
        folder: receives the files.
        select: keep the student with the best validation score at an epoch's end; of equal students the first. An
            epoch that does not end with a validation is left out.
        minutes: time between two checkpoints within an epoch; ``None``: no checkpoints within an epoch.
        score: the metric that selects; default the accuracy.

    Attributes:
        validation: figures of the last student that was measured on validation images.
        validated_step: optimizer steps after which it was measured.
        best_epoch: epoch, counted from 0, of the selected student; ``None`` before the first validation.
        best_step: optimizer steps after which it was selected.

    Raises:
        Interrupted: during training, after a signal to end and a checkpoint.
        RunError: during training, a checkpoint that cannot be written, or weights that are not finite.
    """

    def __init__(
        self, folder: str | Path, *, select: bool, minutes: float | None = 10, score: Score | None = None
    ) -> None:
        self.folder, self.select, self.minutes, self.score = (
            Path(folder).expanduser(),
            select,
            minutes,
            score or Score(),
        )
        self.validation: dict[str, float] = {}
        self.validated_step = -1
        self.best_epoch: int | None = None
        self.best_step, self.best_score = -1, self.score.worst
        self._rows, self._stopped, self._holds = 0, False, False
        self._done = self._places = 0
        self._saved_at = 0.0
        self._validated = False
        self._place: Callable[[dict[str, Any]], None] | None = None
        self._exchange: Exchange | None = None  # among several ranks, during training

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Replace the trainer's ``CheckpointIO`` by ``SealedCheckpointIO``."""
        trainer.strategy.checkpoint_io = SealedCheckpointIO()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take signals over from Lightning, and skip completed batches."""
        signals.listen_again()
        signals.hold()
        self._holds = True
        if self._done == 0:  # with max_steps, Lightning takes the start of an epoch for its middle
            trainer.fit_loop.epoch_loop.restarting = False
        elif isinstance(
            trainer.train_dataloader, TrainLoader
        ):  # Lightning does this too, but before the number is known
            trainer.train_dataloader.load_state_dict({"batches": self._done})
        self._done = 0
        trainer.should_stop = trainer.should_stop or self._stopped
        self._keep_best(trainer)
        self._exchange = Exchange(trainer.strategy.root_device) if trainer.world_size > 1 else None
        self._saved_at = time.monotonic()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let signals end the process again."""
        if self._exchange is not None:
            self._exchange.read()
        self._release()

    def _release(self) -> None:
        if self._holds:
            signals.release()
        self._holds = False

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take signals over from Lightning."""
        signals.listen_again()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take signals over from Lightning."""
        signals.listen_again()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Between two optimizer steps, save if it is time, and end after a signal."""
        validated, self._validated = self._validated, False
        if batch_idx % trainer.accumulate_grad_batches or validated:  # Lightning cannot resume from here
            return
        received, late = self._requests()
        if batch_idx and (received or late):
            self._save(trainer, pl_module, between_batches)
        self._end_after(received, trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Store the validation figures."""
        if trainer.sanity_checking:
            return
        self._validated, self.validated_step = True, trainer.global_step
        figures = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        self.validation = {k.removeprefix("val/"): v for k, v in figures.items()}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Select, save, and end after a signal."""
        self._select(trainer, trainer.current_epoch)
        self._save(trainer, pl_module, at_epoch_end)
        received = signals.requested() or 0
        if self._exchange is not None:
            self._exchange.read()  # of an older state
            self._exchange.start(received)
            (received,) = self._exchange.read() or (0,)
        self._end_after(received, trainer)

    def _select(self, trainer: L.Trainer, epoch: int) -> None:
        """Select the student if its own validation score is the best so far."""
        score = self.validation.get(self.score.name, self.score.worst)
        if self.select and self.validated_step == trainer.global_step and self.score.better(score, self.best_score):
            self.best_score, self.best_epoch, self.best_step = score, epoch, trainer.global_step

    def select_last(self, trainer: L.Trainer) -> None:
        """Select the last student if it is the best, after it was validated at the end of training."""
        self._select(trainer, trainer.current_epoch - 1)
        if self.best_step == trainer.global_step > 0 and trainer.is_global_zero:
            link_or_copy(self.folder / LAST, self.folder / BEST)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """End the ranks that Lightning started, together with this rank."""
        self._release()
        launcher: Any = trainer.strategy.launcher
        if isinstance(exception, signals.Interrupted) and launcher is not None:
            launcher.kill(exception.received)

    def _requests(self) -> tuple[int, bool]:
        """Return the number of a signal to end, or 0, and whether a checkpoint is due; equal on all ranks."""
        received = signals.requested() or 0
        late = self.minutes is not None and time.monotonic() - self._saved_at > 60 * self.minutes
        if self._exchange is None:
            return received, late
        place, self._places = self._places, self._places + 1  # equal on all ranks
        if place % AGREE:
            return 0, False
        received_anywhere, late_anywhere = self._exchange.read() or (0, 0)
        if not (received_anywhere or late_anywhere):  # a request that is answered now is not sent again
            self._exchange.start(received, late)
        return received_anywhere, bool(late_anywhere)

    def _end_after(self, received: int, trainer: L.Trainer) -> None:
        if received:
            raise signals.answer(Signals(received), self._saved_message(trainer))

    def _save(self, trainer: L.Trainer, pl_module: L.LightningModule, place: Callable[[dict[str, Any]], None]) -> None:
        if isinstance(pl_module, DistillationModule):
            pl_module.check_finite()
        self._stopped = trainer.should_stop  # another callback may have ended the run early
        last, self._place = self.folder / LAST, place
        try:
            for logger in trainer.loggers:
                if isinstance(logger, MetricsFile):
                    logger.save()
                    self._rows = len(logger.rows)
            if last.exists() and trainer.is_global_zero:
                link_or_copy(last, self.folder / BEFORE)
            trainer.save_checkpoint(last, weights_only=False)
            if self.best_step == trainer.global_step and trainer.is_global_zero:
                link_or_copy(last, self.folder / BEST)
        except OSError as error:
            raise RunError(f"{self.folder}: cannot be written ({error.strerror or error}); {self.kept()}") from error
        finally:
            self._place = None
        self._saved_at = time.monotonic()

    def kept(self) -> str:
        """Name the checkpoint from which the run can resume."""
        last = last_kept(self.folder)
        return f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"

    def _saved_message(self, trainer: L.Trainer) -> str:
        return f"after {trainer.global_step} steps, {self.kept()}"

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Correct Lightning's loop state in this callback's own checkpoints."""
        if self._place is not None:
            self._place(checkpoint["loops"]["fit_loop"])

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Read the number of completed batches."""
        self._done = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["completed"]

    def _keep_best(self, trainer: L.Trainer) -> None:
        """Write the selected student's file if the run ended before it was written."""
        if self.best_step == trainer.global_step > 0 and trainer.is_global_zero and trainer.ckpt_path:
            link_or_copy(Path(trainer.ckpt_path), self.folder / BEST)

    def state_dict(self) -> dict[str, Any]:
        """Return the selection and the number of rows in the metrics file."""
        validation = {"validation": self.validation, "validated_step": self.validated_step}
        selected = {"best_epoch": self.best_epoch, "best_step": self.best_step, BEST_SCORE: self.best_score}
        return {"rows": self._rows, "stopped": self._stopped, **validation, **selected}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state."""
        self._rows, self._stopped = state_dict["rows"], state_dict["stopped"]
        self.validation, self.best_score = state_dict["validation"], state_dict[BEST_SCORE]
        self.validated_step = state_dict.get("validated_step", -1)  # one of NEWER_FIELDS
        self.best_epoch, self.best_step = state_dict["best_epoch"], state_dict["best_step"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Cut the metrics file at the checkpoint's row, or start a new file."""
        for logger in trainer.loggers:
            if isinstance(logger, MetricsFile):
                logger.begin(self._rows)
