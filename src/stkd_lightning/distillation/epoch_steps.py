"""Traced training steps: the trainings that can have them, and their tables from epoch to epoch."""

from collections.abc import Callable

import lightning as L
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.optim import Optimizer

from stkd_lightning.data.batches import ResidentBatch, TrainEpoch
from stkd_lightning.data.loader import TrainLoader
from stkd_lightning.distillation.mix_draws import MixDraws, sides_of
from stkd_lightning.distillation.mixing import Mixing
from stkd_lightning.distillation.traced_step import NamedValues, StepParts, TracedStep
from stkd_lightning.distillation.whole_step import WholeStep, can_record

TRACED_DEVICES = ("cuda",)  # on CPUs a teacher that is compiled by itself, with frozen weights, is as fast


def accumulates(trainer: L.Trainer) -> bool:
    """Return true if gradients of several batches are added up in any epoch."""
    schedules = (c for c in trainer.callbacks if isinstance(c, GradientAccumulationScheduler))  # type: ignore[attr-defined]
    return trainer.accumulate_grad_batches > 1 or any(c.going_to_accumulate_grad_batches() for c in schedules)


def obstacle_to_trace(trainer: L.Trainer) -> str | None:
    """Return what keeps a training from one trace of its step; ``None`` if nothing does.

    Args:
        trainer: with its strategy and loader.
    """
    loader = trainer.train_dataloader
    if trainer.strategy.root_device.type not in TRACED_DEVICES:
        return f"the training runs on {trainer.strategy.root_device.type}"
    if not isinstance(trainer.strategy, SingleDeviceStrategy):  # DDP with one rank too: its hooks are in the backward
        return f"the strategy is {type(trainer.strategy).__name__}"
    if not isinstance(loader, TrainLoader) or loader.workers or loader.per_image:
        return "the batches do not come from data on the training device"
    if type(trainer.precision_plugin) not in (Precision, MixedPrecision):
        return f"trainer.precision={trainer.precision}"
    return None


def obstacle_to_record(trainer: L.Trainer) -> str | None:
    """Return what keeps a traced step with its optimizer from one CUDA graph; ``None`` if nothing does."""
    if len(trainer.optimizers) != 1:
        return f"there are {len(trainer.optimizers)} optimizers"
    (optimizer,) = trainer.optimizers
    if accumulates(trainer):
        return f"trainer.accumulate_grad_batches={trainer.accumulate_grad_batches}"
    if trainer.gradient_clip_val:
        return f"trainer.gradient_clip_val={trainer.gradient_clip_val}"
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        return f"trainer.precision={trainer.precision}"
    return None if can_record(optimizer) else f"the optimizer is {type(optimizer).__name__}, not a fused SGD"


class EpochSteps:
    """The traced steps of a training; the first one makes the trace.

    Args:
        parts: makes the parts from example images, in the precision of the training.
        optimizer: recorded together with the step in one CUDA graph; ``None``: it steps by itself.
        graphs: launch CUDA graphs for the parts of a step that is not recorded as a whole.
    """

    def __init__(
        self,
        parts: Callable[[Tensor], StepParts],
        optimizer: Optimizer | None,
        *,
        graphs: bool,
    ) -> None:
        self._parts, self._optimizer = parts, optimizer
        self._mode = "reduce-overhead" if graphs and optimizer is None else None
        self._epoch: TrainEpoch | None = None
        self._mixup: Mixing | None = None
        self._traced: TracedStep | None = None
        self._run: Callable[[], NamedValues] | None = None
        self._sides: tuple[int, ...] = ()

    def __call__(self, batch: ResidentBatch, epoch: int, mixup: Mixing | None) -> NamedValues:
        """Return the terms of a batch: with gradients, or after the optimizer's step if that is recorded.

        Args:
            batch: of this epoch.
            epoch: counted from 0.
            mixup: mixes the batch; ``None``: it is not mixed. With another one a new trace is made.

        Raises:
            torch._dynamo.exc.TorchDynamoException: in the first call, if student, teacher and loss make no trace.
        """
        if self._traced is None or mixup is not self._mixup:
            self._sides = sides_of(batch.images)
            parts, draws = self._parts(batch.images), self._draws(batch, epoch, mixup)
            self._traced = TracedStep(parts, batch.epoch, mixup, draws, mode=self._mode)
            self._run = self._traced if self._optimizer is None else WholeStep(self._traced, self._optimizer)
        elif batch.epoch is not self._epoch:
            self._traced.begin(batch.epoch, self._draws(batch, epoch, mixup))
        self._epoch, self._mixup = batch.epoch, mixup
        self._traced.position.fill_(batch.position)
        assert self._run is not None
        return self._run()

    def _draws(self, batch: ResidentBatch, epoch: int, mixup: Mixing | None) -> MixDraws | None:
        if mixup is None:
            return None
        draws, _ = mixup.table(epoch, range(len(batch.epoch)), batch.size, sides=self._sides)
        return draws.map(lambda table: table.to(batch.epoch.order.device))
