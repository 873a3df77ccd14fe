"""Exponential moving average of the student's weights, with TensorFlow's warm-up of the decay
(``tf.train.ExponentialMovingAverage``, ``num_updates``)."""

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from stkd_lightning.distillation.module import DistillationModule
from stkd_lightning.utilities import validation

KEY = "ema"
PREFIX = "student."


class EMA(L.Callback):
    """Averages the student over its optimizer steps; the average is evaluated, selected and saved.

    ``average <- d average + (1 - d) student`` with ``d = min(decay, (1 + n) / (10 + n))`` at step n, for parameters and
    for buffers such as BatchNorm's statistics; counters are copied from the student. The teacher and the loss's own
    parameters are not averaged. A checkpoint has the average under ``student.``, and the trained weights under ``ema``.

    Args:
        decay: d in [0, 1].

    Raises:
        InputError: a decay outside its range.
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = validation.unit_interval("callbacks.ema.decay", decay)
        self.updates = 0
        self.average: dict[str, Tensor] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Start from the student's first weights."""
        if stage == "fit":
            self.updates = 0
            self.average = {name: value.clone() for name, value in _student(pl_module).items()}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Move the average to the student's device."""
        self.average = {name: self.average[name].to(value.device) for name, value in _student(pl_module).items()}

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Average after each optimizer step."""
        if trainer.global_step > self.updates:
            self.update(_student(pl_module))

    @torch.no_grad()
    def update(self, student: dict[str, Tensor]) -> None:
        """Add the weights and buffers of a step, by name, to the average."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        averaged = [name for name, value in student.items() if value.is_floating_point()]
        get_ema_multi_avg_fn(decay)([self.average[n] for n in averaged], [student[n] for n in averaged], self.updates)
        for name in student.keys() - set(averaged):
            self.average[name].copy_(student[name])

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the average into the student for the evaluation."""
        self._exchange(pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the trained weights back into the student."""
        self._exchange(pl_module)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the average into the student for good."""
        self._exchange(pl_module)
        self.average = {}

    @torch.no_grad()
    def _exchange(self, pl_module: L.LightningModule) -> None:
        if not self.average:  # after training the student has the average
            return
        for name, value in _student(pl_module).items():
            weight = value.clone()
            value.copy_(self.average[name])
            self.average[name].copy_(weight)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average as the student."""
        state = checkpoint["state_dict"]
        checkpoint[KEY] = {"updates": self.updates, "student": {n: state[PREFIX + n] for n in self.average}}
        state.update({PREFIX + name: value for name, value in self.average.items()})

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore both; Lightning has loaded the average into the student."""
        if KEY in checkpoint:
            self.updates = checkpoint[KEY]["updates"]
            self.average = {name: value.clone() for name, value in _student(pl_module).items()}
            for name, value in _student(pl_module).items():
                value.copy_(checkpoint[KEY]["student"][name])


def _student(pl_module: L.LightningModule) -> dict[str, Tensor]:
    if not isinstance(pl_module, DistillationModule):
        raise TypeError(f"EMA averages the student of a DistillationModule, this is a {type(pl_module).__name__}")
    return pl_module.student.state_dict()
