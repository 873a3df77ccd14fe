"""Base class of all losses: modules that map two outputs and a mixed label to named, weighted scalar terms."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec

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
    """Module paths in each network whose outputs a loss reads, for example ``("layer3",)``."""

    student: tuple[str, ...] = ()
    teacher: tuple[str, ...] = ()


class Loss(nn.Module):
    """Base class of the losses; a user's loss can be any module with this ``forward``.

    Attributes:
        needs_teacher: whether the loss reads the teacher's output; if false, no teacher is trained or run.
        reads_features: whether the loss reads inner outputs of the networks in addition to the logits.
        reads_logits: whether the loss reads the teacher's logits or classifier, whose classes must be the data's.
        features: module paths of these outputs; final after ``prepare``.
        mixable: whether the loss is defined on virtual samples.
        needs_views: whether the loss reads a weak and a strong view of each sample.
        needs_labels: whether a term other than the cross-entropy with the label reads it; such a loss is not defined on
            unlabelled samples.
        needs_clean: the option for which some samples of the training must be left clean; empty: none.
        traceable: whether ``forward`` can be compiled into one trace with the networks: it reads no context, keeps no
            state, and takes no decision by values of tensors.
        dense: whether the loss needs a label for each position; false: for each sample; ``None``: it takes both.
        exclusive: whether the loss needs exactly one class for each label.
        other_temperatures: at which the loss reads the teacher's logits, besides its ``temperature``.
        smallest_batch: smallest number of samples over all ranks.
        smallest_classes: smallest number of classes in a row of logits.
        notice: a line for the log about the networks, for example a deviation from the paper; set by ``prepare``.
    """

    needs_teacher: bool = True
    reads_features: bool = False
    reads_logits: bool = True
    features: Features = Features()
    mixable: bool = True
    needs_views: bool = False
    needs_labels: bool = True
    needs_clean: str = ""
    traceable: bool = False
    dense: bool | None = None
    exclusive: bool = False
    other_temperatures: tuple[float, ...] = ()
    smallest_batch: int = 1
    smallest_classes: int = 1
    notice: str = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "forward" in cls.__dict__ and "traceable" not in cls.__dict__:
            cls.traceable = False  # an overridden forward says so by itself

    def prepare(self, student: NetworkInspector, teacher: NetworkInspector) -> None:
        """Fit the loss to the networks: choose the layers to read, and build the loss's parameters.

        Raises:
            InputError: a layer does not exist.
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

    def logged(self) -> Terms:
        """Return scalars to log beside the terms, by name, such as a learned temperature."""
        return {}


def reads_logits(loss: nn.Module) -> bool:
    """Return whether a loss, or a user's module, reads the teacher's logits or classifier."""
    return bool(getattr(loss, "needs_teacher", True)) and bool(getattr(loss, "reads_logits", True))


def full_precision(function: Pure[P]) -> Pure[P]:
    """Decorate a function of ``(student, teacher, ...)``: it computes in float32 or better, also under autocast."""

    @wraps(function)
    def run(student: Tensor, teacher: Tensor, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        with torch.autocast(student.device.type, enabled=False):
            return function(at_least_float32(student), at_least_float32(teacher), *args, **kwargs)

    return run


def check_logits(student: Tensor, teacher: Tensor) -> None:
    """Refuse logits of different shapes, which broadcasting would hide.

    Raises:
        ValueError: the shapes are not equal, or not ``(B, K)``.
    """
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher logits need one equal shape (B, K): {tuple(student.shape)}, {tuple(teacher.shape)}"
        )


def require_teacher(teacher: ModelOutput | None, loss: nn.Module) -> ModelOutput:
    """Return the teacher's output.

    Raises:
        ValueError: there is no teacher.
    """
    if teacher is None:
        raise ValueError(f"{type(loss).__name__} needs a teacher: pass one to DistillationModule")
    return teacher


def paired_rows(
    student: ModelOutput, teacher: ModelOutput | None, target: MixedTarget, loss: nn.Module
) -> tuple[Rows, Tensor]:
    """Return the rows of both networks' logits, and the teacher's rows as a tensor ``(N, K)``.

    Raises:
        ValueError: there is no teacher, or the logits have other positions than the labels.
    """
    logits = require_teacher(teacher, loss).logits
    rows = target.rows(student.logits, logits)
    return rows, logits if rows.teacher is None else rows.teacher
