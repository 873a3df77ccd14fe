"""What the teacher says of a batch: said now, said before in this run, or recorded by an earlier one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from stkd_lightning.tasks.types import Batch, ModelOutput, StepContext
from stkd_lightning.teacher.frozen import FrozenTeacher
from stkd_lightning.teacher.replay import Reading, Recording, Replay


class Answers:
    """Asks a teacher no more often than needed.

    An evaluation shows the same images each time, so its logits are kept in memory, by the place of the batch, for as
    long as the same sample indices stand there. With a replay, training's and evaluation's are kept on disk.

    Args:
        teacher: answers where nothing is kept.
        replay: keeps logits between runs.
    """

    def __init__(self, teacher: FrozenTeacher, replay: Replay | None = None) -> None:
        self.teacher, self.replay = teacher, replay
        self._epoch: Reading | Recording | None = None
        self._evaluation: Reading | Recording | None = None
        self._kept: dict[tuple[str, int, int], tuple[Tensor, Tensor]] = {}

    def begin_epoch(self, epoch: int, batches: int | float) -> None:
        """Start an epoch of training; all ranks call it."""
        if self.replay is not None:
            self._epoch = self.replay.open(f"epoch-{epoch}", int(batches))

    def end_epoch(self) -> None:
        """Finish it; all ranks call it."""
        if self._epoch is not None:
            self._epoch.end()
        self._epoch = None

    def begin_evaluation(self, stage: str, batches: Sequence[int | float]) -> None:
        """Start an evaluation over loaders of so many batches; all ranks call it."""
        if self.replay is not None and len(batches) == 1 and (stage, 0, 0) not in self._kept:
            self._evaluation = self.replay.open(stage, int(batches[0]))

    def end_evaluation(self) -> None:
        """Finish it; all ranks call it."""
        if self._evaluation is not None:
            self._evaluation.end()
        self._evaluation = None

    def abandon(self) -> None:
        """Let go of what is being recorded, after a run that failed."""
        for recorded in (self._epoch, self._evaluation):
            if recorded is not None:
                recorded.abandon()
        self._epoch = self._evaluation = None

    def of_virtual(self, images: Tensor, context: StepContext | None) -> ModelOutput:
        """Return the answer to virtual images ``(B, C, H, W)``; without a context nothing is replayed."""
        if self._epoch is None or context is None:
            return self.teacher(images)
        return ModelOutput(self._epoch.logits(context.step, images, lambda: self.teacher(images).logits))

    def of_evaluation(self, batch: Batch, stage: str, dataloader: int, position: int) -> Tensor:
        """Return the logits ``(B, K)`` of images as they are.

        Args:
            batch: images, and indices by which they are known again; without indices the teacher is asked each time.
            stage: ``val`` or ``test``.
            dataloader: index of the loader.
            position: of the batch in it.
        """

        def ask() -> Tensor:
            return self.teacher(batch.images, eager=True).logits

        kept, logits = self._kept.get((stage, dataloader, position), (None, None))
        if logits is not None and kept is not None and batch.indices is not None and torch.equal(kept, batch.indices):
            return logits
        logits = ask() if self._evaluation is None else self._evaluation.logits(position, batch.images, ask)
        if batch.indices is not None:
            self._kept[stage, dataloader, position] = batch.indices, logits
        return logits
