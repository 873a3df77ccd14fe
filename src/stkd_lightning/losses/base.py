"""What every loss is: a module from two outputs and a mixed label to named, weighted scalar terms."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stkd_lightning.outputs import MixedTarget, ModelOutput, StepContext

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Features:
    """Module paths whose outputs a loss reads, for each network, for example ``("layer3",)``."""

    student: tuple[str, ...] = ()
    teacher: tuple[str, ...] = ()


class Loss(nn.Module):
    """Base of the losses; a user's own loss may be any module with this ``forward``.

    Attributes:
        needs_teacher: false where the teacher's output is never read, so that none has to be trained or run.
        features: inner outputs that the loss reads beside the logits.
    """

    needs_teacher: bool = True
    features: Features = Features()

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return the weighted scalar terms; the objective is their sum."""
        raise TypeError(f"{type(self).__name__} defines no forward")


def at_least_float32(tensor: Tensor) -> Tensor:
    """Raise half precision to float32; keep float32 and float64."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


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
