"""Look-ahead: the teacher answers several batches at once, since virtual samples are known before their step."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from stkd_lightning.data.batches import ResidentBatch
from stkd_lightning.models.feature_hooks import has_batch
from stkd_lightning.tasks.types import Batch, ModelOutput, StepContext, VirtualBatch
from stkd_lightning.utilities.errors import InputError

Make = Callable[[Batch | ResidentBatch, StepContext | None], VirtualBatch]
Ask = Callable[[Tensor], ModelOutput]


@dataclass(frozen=True)
class Group:
    """Some batches that follow each other in an epoch.

    Attributes:
        epoch: counted from 0.
        start: index of the first batch in the epoch.
        batches: the virtual batches.
        ask: runs the teacher on images.
    """

    epoch: int
    start: int
    batches: tuple[VirtualBatch, ...]
    ask: Ask

    @cached_property
    def outputs(self) -> tuple[ModelOutput, ...]:
        """The teacher's output for each batch; the teacher runs once for all."""
        output, count = self.ask(torch.cat([batch.inputs for batch in self.batches])), len(self.batches)
        logits = output.logits.chunk(count)
        features = {p: f.chunk(count) if has_batch(p) else (f,) * count for p, f in output.features.items()}
        return tuple(ModelOutput(logits[i], {path: parts[i] for path, parts in features.items()}) for i in range(count))


def check_resident(steps: int, batch: object) -> None:
    """Refuse look-ahead for batches that are not resident, so that the next batches are not known.

    Raises:
        InputError: the teacher answers more than one batch at once.
    """
    if steps > 1 and not isinstance(batch, ResidentBatch):
        raise InputError(
            f"teacher.look_ahead={steps}: needs a data module of this project with its data on the training device "
            "(dataset.resident=true); set teacher.look_ahead=1"
        )


class LookAhead:
    """Groups of batches, aligned to the epoch's start: a resumed run computes the same outputs bit for bit.

    The last group of an epoch repeats its last batch, so that all groups have one shape.

    Args:
        steps: batches of a group, > 1.
        make: makes a virtual batch.
        ask: runs the teacher on images.
    """

    def __init__(self, steps: int, make: Make, ask: Ask) -> None:
        self.steps, self._make, self._ask = steps, make, ask
        self._group: Group | None = None

    def end(self) -> None:
        """Forget the group: another training has other batches."""
        self._group = None

    def group(self, batch: ResidentBatch, context: StepContext) -> Group:
        """Return the group of a batch."""
        start, last = context.step // self.steps * self.steps, len(batch.epoch) - 1
        if self._group is None or (self._group.epoch, self._group.start) != (context.epoch, start):
            places = [min(i, last) for i in range(start, start + self.steps)]
            batches = tuple(self._make(batch.at(i), replace(context, step=i)) for i in places)
            self._group = Group(context.epoch, start, batches, self._ask)
        return self._group
