"""Teacher logits for a batch: computed, cached in memory, or read from disk."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from stkd_lightning.tasks.base import Task
from stkd_lightning.tasks.classification import Classification
from stkd_lightning.tasks.types import Batch, ModelOutput, StepContext
from stkd_lightning.teacher.frozen import FrozenTeacher
from stkd_lightning.teacher.replay import RecordedPass, StoredPass, open_pass
from stkd_lightning.utilities.distributed import of_first_rank

MEMORY_LIMIT = 2**30  # bytes of evaluation logits in memory, for each rank


class TeacherOutputs:
    """The outputs of a teacher in one run; the teacher runs no more often than necessary.

    Every evaluation shows the same images. Their logits are cached in memory, on the device, up to ``MEMORY_LIMIT``
    bytes; the teacher computes the logits beyond the limit at every evaluation. With a replay folder the logits of
    training epochs and evaluations are also stored on disk, and a later run reads them there. Those of evaluations of a
    dense task, which are many, are neither cached nor stored.

    Args:
        teacher: computes the outputs that are not stored.
        replay: folder of stored logits; see ``open_pass``. ``None`` stores nothing.
        task: of the teacher; default ``Classification()``.
    """

    def __init__(self, teacher: FrozenTeacher, replay: str | Path | None = None, task: Task | None = None) -> None:
        self.teacher, self.task = teacher, task or Classification()
        self.replay = None if replay is None else Path(replay)
        self._epoch: StoredPass | RecordedPass | None = None
        self._evaluation: StoredPass | RecordedPass | None = None
        self._cache: dict[tuple[str, int, int], tuple[Tensor, Tensor]] = {}
        self._cached_bytes = 0

    def begin_epoch(self, epoch: int, batches: int | float) -> None:
        """Begin a training epoch; all ranks must call this."""
        if self.replay is not None:
            self._epoch = open_pass(self.replay, f"epoch-{epoch}", int(batches))

    def end_epoch(self) -> None:
        """End the training epoch; all ranks must call this."""
        if self._epoch is not None:
            self._epoch.end()
        self._epoch = None

    def begin_evaluation(self, stage: str, batches: Sequence[int | float]) -> None:
        """Begin an evaluation; all ranks must call this.

        Args:
            stage: ``val`` or ``test``.
            batches: number of batches of each data loader. Only a single loader is stored on disk.
        """
        if self.replay is None or self.task.dense or len(batches) != 1:
            return
        count = int(batches[0])
        if not of_first_rank(all((stage, 0, position) in self._cache for position in range(count))):
            self._evaluation = open_pass(self.replay, stage, count)

    def end_evaluation(self) -> None:
        """End the evaluation; all ranks must call this."""
        if self._evaluation is not None:
            self._evaluation.end()
        self._evaluation = None

    def abandon(self) -> None:
        """Delete unfinished recordings after a failed run, so that other runs can record them."""
        for unfinished in (self._epoch, self._evaluation):
            if unfinished is not None:
                unfinished.abandon()
        self._epoch = self._evaluation = None

    def training_output(
        self, images: Tensor, context: StepContext | None, ask: Callable[[], ModelOutput] | None = None
    ) -> ModelOutput:
        """Return the teacher's output for virtual images ``(B, C, H, W)``; without a context the teacher computes it.

        Stored outputs have logits of the teacher's own shape ``(B, K, ...)`` and no features.

        Args:
            images: of the batch.
            context: place of the batch in the run.
            ask: returns the teacher's output for them, for example computed together with other batches; ``None``: the
                teacher runs on the images.
        """
        ask = ask or partial(self.teacher, images)
        if self._epoch is None or context is None:
            return ask()
        return ModelOutput(self._epoch.logits(context.step, images, lambda: ask().logits))

    def evaluation_logits(self, batch: Batch, stage: str, dataloader: int, position: int) -> Tensor:
        """Return the teacher's logits ``(B, K, ...)`` for the unmixed images of an evaluation.

        Args:
            batch: with sample indices its logits are cached; without them the teacher computes them each time.
            stage: ``val`` or ``test``.
            dataloader: index of the data loader.
            position: index of the batch in its loader.
        """

        def compute() -> Tensor:
            return self.task.infer(lambda images: self.teacher(images, eager=True).logits, batch.images)

        if self.task.dense:
            return compute()
        key = (stage, dataloader, position)
        if batch.indices is not None and key in self._cache:
            indices, logits = self._cache[key]
            if torch.equal(indices, batch.indices):
                return logits
            self._cached_bytes -= self._cache.pop(key)[1].nbytes
        logits = compute() if self._evaluation is None else self._evaluation.logits(position, batch.images, compute)
        if batch.indices is not None and self._cached_bytes + logits.nbytes <= MEMORY_LIMIT:
            self._cache[key] = batch.indices, logits
            self._cached_bytes += logits.nbytes
        return logits
