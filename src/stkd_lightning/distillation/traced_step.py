"""A training step as one compiled function: augmentation, mixing, teacher, student and loss in one trace."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from stkd_lightning.data.batches import TrainEpoch
from stkd_lightning.distillation.mix_draws import MixDraws, Samples
from stkd_lightning.distillation.mixing import Mixing
from stkd_lightning.models.memory_format import Run, images_channels_last, isolated
from stkd_lightning.tasks.base import Task
from stkd_lightning.tasks.types import ModelOutput

NamedValues = tuple[tuple[str, ...], Tensor]  # names of the terms, and their values (n,)


@dataclass(frozen=True)
class StepParts:
    """The parts of a step.

    Attributes:
        student: images to logits and features.
        teacher: likewise, without gradients; ``None`` if the loss needs none.
        loss: its ``traceable`` is true.
        task: makes the targets.
    """

    student: Run
    teacher: Callable[[Tensor], ModelOutput] | None
    loss: nn.Module
    task: Task


class TracedStep:
    """The terms of a batch, computed by one compiled function from the tables of its epoch.

    The tables are static: those of the next epoch are copied into the same memory, where CUDA graphs read them. So a
    step copies nothing from the host.

    Args:
        parts: of the step.
        epoch: tables of the samples, of one process.
        mixup: mixes the batches; ``None``: they are not mixed.
        draws: its tables ``(N, B, ...)`` on the epoch's device; ``None`` without mixing.
        compile: options of ``torch.compile``, for example its mode.

    Raises:
        torch._dynamo.exc.TorchDynamoException: in the first call, if the parts do not make one trace.
    """

    def __init__(
        self, parts: StepParts, epoch: TrainEpoch, mixup: Mixing | None, draws: MixDraws | None, **compile: Any
    ) -> None:
        self.parts, self.mixup = parts, mixup
        order, samples = epoch.order.clone(), tuple(part.clone() for part in epoch.draws)
        self.tables = replace(epoch, order=order, draws=samples)
        self.mixing = None if draws is None else draws.map(Tensor.clone)
        self.places = torch.arange(epoch.size, device=order.device)
        self.position = torch.zeros((), dtype=torch.int64, device=order.device)
        data = [part for part in self.tables.split if isinstance(part, Tensor)]
        constants = (*data, epoch.normalize.scale, epoch.normalize.shift, self.places, self.position)
        static = (*constants, order, *samples, *(self.mixing.tensors() if self.mixing else ()))
        for tensor in static:
            torch._dynamo.mark_static_address(tensor)
        self._compiled: Callable[[], NamedValues] = torch.compile(
            isolated(self._terms), fullgraph=True, dynamic=False, **compile
        )

    def begin(self, epoch: TrainEpoch, draws: MixDraws | None) -> None:
        """Copy the tables of another epoch, which have the same shapes."""
        tables = (self.tables.order, *self.tables.draws, *(self.mixing.tensors() if self.mixing else ()))
        others = (epoch.order, *epoch.draws, *(draws.tensors() if draws else ()))
        for table, new in zip(tables, others, strict=True):
            table.copy_(new)

    def __call__(self) -> NamedValues:
        """Return the terms of the batch at ``position``; the values carry gradients."""
        return self._compiled()

    def _terms(self) -> NamedValues:
        batch = self.tables.samples(self.position, self.places)
        if self.mixup is None or self.mixing is None:
            images, target = batch.inputs, self.parts.task.unmixed(batch.labels)
        else:
            draws = self.mixing.map(lambda table: table.index_select(0, self.position.view(1))[0])
            images_at, labels_at = partial(batch.inputs.index_select, 0), batch.labels.__getitem__
            samples = Samples(batch.inputs, batch.labels, images_at, labels_at, self.tables.size)
            images, target = self.mixup.virtual(samples, draws, self.parts.task.target)
        target = self.parts.task.seen(target, images)
        images, teacher = images_channels_last(images), None
        if self.parts.teacher is not None:
            with torch.no_grad():
                teacher = self.parts.teacher(images)
        terms = self.parts.loss(ModelOutput(*self.parts.student(images)), teacher, target, None)
        return tuple(terms), torch.stack(list(terms.values()))
