"""The first classes that a student and its teacher give to each image of an evaluation."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from stkd_lightning.utilities.distributed import world
from stkd_lightning.utilities.dtypes import at_least_float32
from stkd_lightning.utilities.errors import InputError


class Classified(NamedTuple):
    """Images with the first classes of both networks; without a teacher the parts that need one are empty.

    A few numbers for each image are kept, not its logits, so that any number of images fits into memory.

    Attributes:
        indices: ``(N,)`` int64 positions of the images in their split.
        labels: ``(N,)`` int64 true classes.
        student: ``(N,)`` int64 first class of the student.
        student_share: ``(N,)`` float32 probability that the student gives to it.
        teacher: ``(N,)`` first class of the teacher.
        teacher_share: ``(N,)`` likewise.
        divergence: ``(N,)`` float32 KL(teacher || student) at temperature 1, in nats.
    """

    indices: Tensor
    labels: Tensor
    student: Tensor
    student_share: Tensor
    teacher: Tensor
    teacher_share: Tensor
    divergence: Tensor

    @classmethod
    def of(cls, indices: Tensor, labels: Tensor, student: Tensor, teacher: Tensor | None = None) -> "Classified":
        """Keep what is needed of logits ``(B, K)``; a probability of NaN counts as 0."""
        log_student = at_least_float32(student).log_softmax(1)
        share, first = _first(log_student)
        if teacher is None:
            return cls(indices, labels, first, share, first[:0], share[:0], share[:0])
        log_teacher = at_least_float32(teacher).log_softmax(1)
        teacher_share, teacher_first = _first(log_teacher)
        divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(1).nan_to_num(0).float()
        return cls(indices, labels, first, share, teacher_first, teacher_share, divergence)

    @classmethod
    def joined(cls, parts: Sequence["Classified"]) -> "Classified":
        """Return the images of batches, at least one, on the CPU; those of all ranks, which all must call it."""
        if not parts:
            raise InputError("an evaluation has fewer images than ranks; use trainer.devices=1")
        joined = [torch.cat(tensors) for tensors in zip(*parts, strict=True)]
        if world()[1] > 1:
            joined = [torch.cat(gather_all_tensors(tensor)) for tensor in joined]
        return cls(*(tensor.cpu() for tensor in joined))

    @property
    def is_right(self) -> Tensor:
        """True for images whose first class from the student is the true one ``(N,)``."""
        return self.student == self.labels

    def most_wrong(self) -> Tensor:
        """Return the places of all wrong images ``(n,)``, those of the most probable wrong class first."""
        wrong = (~self.is_right).nonzero()[:, 0]
        return wrong[self.student_share[wrong].argsort(descending=True, stable=True)]

    def most_disagreeing(self) -> Tensor:
        """Return the places of images that only the teacher has right ``(n,)``, of the largest divergence first."""
        if not len(self.teacher):
            return self.teacher
        lost = (~self.is_right & (self.teacher == self.labels)).nonzero()[:, 0]
        return lost[self.divergence[lost].argsort(descending=True, stable=True)]


def _first(log_shares: Tensor) -> tuple[Tensor, Tensor]:
    share, first = log_shares.max(1)
    return share.exp().nan_to_num(0).float(), first
