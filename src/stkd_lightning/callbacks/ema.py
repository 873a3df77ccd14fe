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
        self.average: dict[str, Tensor] = {}  # at least in float32, where a small change is not lost
        self._trained: dict[str, Tensor] = {}  # the student's own weights, while it has the average

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Start from the student's first weights."""
        if stage == "fit":
            self.updates = 0
            self.average = {name: value.clone() for name, value in _student(pl_module).items()}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Move the average to the student's device."""
        for name, value in _student(pl_module).items():
            average = self.average[name]
            self.average[name] = average.to(value.device, torch.promote_types(average.dtype, value.dtype))

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
        averages = [self.average[n] for n in averaged]
        weights = [student[n].to(average.dtype) for n, average in zip(averaged, averages, strict=True)]
        get_ema_multi_avg_fn(decay)(averages, weights, self.updates)
        for name in student.keys() - set(averaged):
            self.average[name].copy_(student[name])

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the average into the student for the evaluation."""
        if self.average:  # after training the student has the average
            self._trained = {name: value.clone() for name, value in _student(pl_module).items()}
            _put(self.average, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the trained weights back into the student."""
        _put(self._trained, pl_module)
        self._trained = {}

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the average into the student for good."""
        _put(self.average, pl_module)
        self.average = {}

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average as the student."""
        state = checkpoint["state_dict"]
        checkpoint[KEY] = {"updates": self.updates, "student": {n: state[PREFIX + n] for n in self.average}}
        state.update({PREFIX + name: value for name, value in self.average.items()})

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore both; Lightning has loaded the average into the student."""
        if KEY in checkpoint:
            self.updates = checkpoint[KEY]["updates"]
            for name, value in _student(pl_module).items():
                self.average[name] = checkpoint["state_dict"][PREFIX + name].to(value.device, copy=True)
            _put(checkpoint[KEY]["student"], pl_module)


def _student(pl_module: L.LightningModule) -> dict[str, Tensor]:
    if not isinstance(pl_module, DistillationModule):
        raise TypeError(f"EMA averages the student of a DistillationModule, this is a {type(pl_module).__name__}")
    return pl_module.student.state_dict()


@torch.no_grad()
def _put(weights: dict[str, Tensor], pl_module: L.LightningModule) -> None:
    student = _student(pl_module)
    for name, weight in weights.items():
        student[name].copy_(weight)
