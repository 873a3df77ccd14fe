"""What every loss is: a module from two outputs and a mixed label to named, weighted scalar terms."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor, nn

from stkd_lightning.models.probe import NetworkInspector
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, Rows, StepContext
from stkd_lightning.utilities.dtypes import at_least_float32

Terms = dict[str, Tensor]
P = ParamSpec("P")
Pure = Callable[Concatenate[Tensor, Tensor, P], Tensor]


@dataclass(frozen=True)
class Features:
    """Module paths whose outputs a loss reads, for each network, for example ``("layer3",)``."""

    student: tuple[str, ...] = ()
    teacher: tuple[str, ...] = ()


class Loss(nn.Module):
    """Base of the losses; a user's own loss may be any module with this ``forward``.

    Attributes:
        needs_teacher: false where the teacher's output is never read, so that none has to be trained or run.
        reads_features: whether inner outputs of the networks are read beside the logits.
        features: which; known at the latest when the loss is prepared.
        mixable: whether the loss is defined on virtual samples.
        smallest_batch: samples over all ranks that it needs.
        smallest_classes: classes of a row of logits that it needs.
    """

    needs_teacher: bool = True
    reads_features: bool = False
    features: Features = Features()
    mixable: bool = True
    smallest_batch: int = 1
    smallest_classes: int = 1

    def prepare(self, student: NetworkInspector, teacher: NetworkInspector) -> None:
        """Fit the loss to the networks: choose what it reads of them and build its own parameters.

        Raises:
            InputError: a feature that is not there.
        """
        student.shapes(self.features.student)
        teacher.shapes(self.features.teacher)

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return the weighted scalar terms; the objective is their sum."""
        raise TypeError(f"{type(self).__name__} defines no forward")


def full_precision(function: Pure[P]) -> Pure[P]:
    """Have a function of ``(student, teacher, ...)`` compute in float32 or better, also under autocast."""

    @wraps(function)
    def run(student: Tensor, teacher: Tensor, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        with torch.autocast(student.device.type, enabled=False):
            return function(at_least_float32(student), at_least_float32(teacher), *args, **kwargs)

    return run


def check_logits(student: Tensor, teacher: Tensor) -> None:
    """Refuse logits that broadcasting would hide.

    Raises:
        ValueError: not two equal ``(B, K)`` shapes.
    """
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher logits need one equal shape (B, K): {tuple(student.shape)}, {tuple(teacher.shape)}"
        )


def require_teacher(teacher: ModelOutput | None, loss: nn.Module) -> ModelOutput:
    """Return the teacher's output.

    Raises:
        ValueError: there is none.
    """
    if teacher is None:
        raise ValueError(f"{type(loss).__name__} needs a teacher: pass one to DistillationModule")
    return teacher


def paired_rows(
    student: ModelOutput, teacher: ModelOutput | None, target: MixedTarget, loss: nn.Module
) -> tuple[Rows, Tensor]:
    """Return the rows of both networks' logits, and those of the teacher by themselves, ``(N, K)``.

    Raises:
        ValueError: there is no teacher, or logits of other positions than the labels'.
    """
    taught = require_teacher(teacher, loss).logits
    rows = target.rows(student.logits, taught)
    return rows, taught if rows.teacher is None else rows.teacher
