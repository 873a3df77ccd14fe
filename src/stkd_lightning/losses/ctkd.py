"""Curriculum temperature, in its global version: Li et al. 2023 (arXiv:2211.16231)."""

import math

import torch
from torch import Tensor, nn

from stkd_lightning.losses.base import Loss, Terms, paired_rows
from stkd_lightning.losses.kd import softened_kl
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation


def scale_gradient(value: Tensor, factor: float) -> Tensor:
    """Return a value as it is, whose gradient is multiplied by a factor; a negative factor reverses the gradient."""
    constant = value.detach()
    return constant + factor * (value - constant)


def curriculum(context: StepContext | None, epochs: int) -> float:
    """Return the factor of the temperature's gradient, in [-1, 0): -1/2 (1 - cos(pi min(e, epochs) / epochs)).

    Args:
        context: position of the run, in epoch e, counted from 1; ``None``: after the last epoch of the curriculum.
        epochs: number of epochs over which the factor falls to -1.
    """
    epoch = epochs if context is None else min(context.epoch + 1, epochs)
    return -0.5 * (1 - math.cos(math.pi * epoch / epochs))


class CTKDLoss(Loss):
    """``T**2 KL(p_t || p_s)`` at a temperature that is learned against the student; term ``ctkd``.

    ``T = minimum_temperature + temperature_range * sigmoid(theta)``; theta begins at 1, and T at 15.6. The student
    minimizes the term, and theta maximizes it: theta's gradient, which also passes through T**2, is multiplied by
    ``curriculum``. Theta is a parameter of the loss. It shares the student's optimizer with rate and weight decay; the
    decay draws theta to 0. The paper's weights are 0.1 for cross-entropy and 0.9 for this term.

    Args:
        minimum_temperature: > 0.
        temperature_range: >= 0, width of the interval of T.
        curriculum_epochs: >= 1, epochs over which theta's gradient grows to its full size.

    Raises:
        InputError: an argument is outside its range.
    """

    needs_labels = False

    def __init__(
        self, *, minimum_temperature: float = 1.0, temperature_range: float = 20.0, curriculum_epochs: int = 10
    ) -> None:
        super().__init__()
        self.minimum_temperature = validation.positive("loss.minimum_temperature", minimum_temperature)
        self.temperature_range = validation.non_negative("loss.temperature_range", temperature_range)
        self.curriculum_epochs = validation.whole("loss.curriculum_epochs", curriculum_epochs, minimum=1)
        self.theta = nn.Parameter(torch.ones(()))

    def temperature(self, context: StepContext | None = None) -> Tensor:
        """Return T, a scalar, with theta's gradient reversed."""
        theta = scale_gradient(self.theta, curriculum(context, self.curriculum_epochs))
        return self.minimum_temperature + self.temperature_range * torch.sigmoid(theta)

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"ctkd"}`` of the rows of logits; without a context theta's gradient has its full size."""
        rows, teacher_rows = paired_rows(student, teacher, target, self)
        return {"ctkd": softened_kl(rows.student, teacher_rows, temperature=self.temperature(context), mean=rows.mean)}

    def logged(self) -> Terms:
        """Return ``{"temperature"}``."""
        return {"temperature": self.temperature().detach()}
