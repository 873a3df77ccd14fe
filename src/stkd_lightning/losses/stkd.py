"""Similarity Transfer for Knowledge Distillation: Zhao et al. 2021 (arXiv:2103.10047).

Stated in the paper's abstract: virtual samples by mixup; a loss on the mixed labels and on the similarities of
the incorrect classes; similar distributions of teacher and student on the virtual sample. Our reading, because
the abstract gives no equation: the objective of ``STKDLoss`` and the split of its divergence at the mixed label.
Its settings are ours, chosen on validation images: alpha and temperature as in KD, the exact divergence, and light
mixing, by Beta(0.2, 0.2); ``conf/loss/stkd.yaml`` says by which tables.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from stkd_lightning.losses.base import Loss, Terms, check_logits, paired_rows
from stkd_lightning.losses.cross_entropy import mixed_cross_entropy
from stkd_lightning.losses.kd import softened_kl
from stkd_lightning.tasks.types import Mean, MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.dtypes import at_least_float32
from stkd_lightning.utilities.errors import unknown


def similarity_transfer(
    student: Tensor,
    teacher: Tensor,
    correct: Tensor,
    *,
    temperature: float = 4.0,
    incorrect_weight: float | None = None,
    mean: Mean = torch.mean,
) -> Tensor:
    """``T**2 * KL(teacher || student)``, split at the set of correct classes.

    With p, q the softmaxes of teacher and student at temperature T, S the correct classes, c and d the mass that
    p and q give to the others, and hats for distributions renormalized over the others::

        KL = sum_{j in S} p_j log(p_j / q_j) + c log(c / d) + c * KL(p_hat || q_hat)

    Args:
        student: logits ``(B, K)``; carries the gradient.
        teacher: logits ``(B, K)``; treated as a constant.
        correct: ``(B, K)`` bool, the classes with weight in the mixed label. Where they are all classes, the
            two terms of the others are 0 with finite gradients.
        temperature: T > 0.
        incorrect_weight: replaces the last factor c; ``None`` keeps it, which is the exact divergence.
        mean: over the samples ``(B,)``; a task whose rows can be ignored gives that of its rows.

    Returns:
        Scalar, T**2 * nats per example, averaged over the batch.

    Raises:
        ValueError: shapes that differ.

    Example:
        >>> import torch
        >>> from stkd_lightning.losses import similarity_transfer
        >>> student, teacher = torch.tensor([[2.0, 1.0, 0.0, 0.0]]), torch.tensor([[4.0, 4.0, 2.0, 0.0]])
        >>> correct = torch.tensor([[True, True, False, False]])
        >>> similarity_transfer(student, teacher, correct)
        tensor(0.4490)
        >>> similarity_transfer(student, teacher, correct, incorrect_weight=0)
        tensor(0.2901)
    """
    check_logits(student, teacher)
    if correct.shape != student.shape:
        raise ValueError(f"correct classes need the logits' shape {tuple(student.shape)}: {tuple(correct.shape)}")
    if incorrect_weight is None:
        return softened_kl(student, teacher, temperature=temperature, mean=mean)
    target, within, _ = divergence_parts(student, teacher, correct, temperature=temperature)
    return temperature**2 * mean(target + incorrect_weight * within)


def divergence_parts(
    student: Tensor, teacher: Tensor, correct: Tensor, *, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Split the divergence of each sample at its correct classes.

    Args:
        student: logits ``(B, K)``.
        teacher: logits ``(B, K)``; treated as a constant.
        correct: ``(B, K)`` bool.
        temperature: T > 0.

    Returns:
        Each ``(B,)``: the divergence between {each correct class, all others together}, that among the others
        renormalized, and the teacher's mass of the others, by which the second is weighted in their sum, the whole
        divergence.
    """
    log_student = F.log_softmax(at_least_float32(student) / temperature, dim=1)
    log_teacher = F.log_softmax(at_least_float32(teacher.detach()) / temperature, dim=1)
    difference = log_teacher - log_student

    incorrect = ~correct
    some = incorrect.any(1)
    # A row without incorrect classes sums over all of them instead, so that no infinity enters its gradient.
    others = incorrect | ~some[:, None]
    log_mass_student = log_student.masked_fill(~others, -torch.inf).logsumexp(1)
    log_mass_teacher = log_teacher.masked_fill(~others, -torch.inf).logsumexp(1)
    mass_difference = log_mass_teacher - log_mass_student

    among_correct = (log_teacher.exp() * difference).masked_fill(~correct, 0).sum(1)
    mass = log_mass_teacher.exp()
    renormalized = (log_teacher - log_mass_teacher[:, None]).masked_fill(~others, -torch.inf).exp()
    within = (renormalized * (difference - mass_difference[:, None])).sum(1)

    zero = torch.zeros_like(within)
    between = torch.where(some, mass * mass_difference, zero)
    return among_correct + between, torch.where(some, within, zero), torch.where(some, mass, zero)


class STKDLoss(Loss):
    """``(1 - alpha) CE(mixed y, p_s) + alpha T**2 KL(p_t || p_s)`` on virtual samples.

    Terms ``cross_entropy`` (left out with ``hard_label="none"``) and ``similarity``.

    Args:
        alpha: share of the similarity term, in [0, 1].
        temperature: T > 0.
        incorrect_weight: weight >= 0 of the similarity among the incorrect classes by itself; ``None``: the exact
            divergence, in which that weight is the mass the teacher gives to them.
        hard_label: ``"mixed"``, or ``"none"`` for the teacher's similarities alone.

    Raises:
        InputError: an argument outside its range.

    Example:
        >>> import torch
        >>> from stkd_lightning import MixedTarget, ModelOutput
        >>> from stkd_lightning.losses import STKDLoss
        >>> student, teacher = ModelOutput(torch.zeros(1, 4)), ModelOutput(torch.tensor([[4.0, 4.0, 2.0, 0.0]]))
        >>> STKDLoss(alpha=0.9)(student, teacher, MixedTarget(torch.tensor([[0, 1]]), torch.tensor([[0.6, 0.4]])))
        {'similarity': tensor(1.0168), 'cross_entropy': tensor(0.1386)}
    """

    def __init__(
        self,
        *,
        alpha: float = 0.9,
        temperature: float = 4.0,
        incorrect_weight: float | None = None,
        hard_label: Literal["mixed", "none"] = "mixed",
    ) -> None:
        super().__init__()
        self.alpha = validation.unit_interval("loss.alpha", alpha)
        self.temperature = validation.positive("loss.temperature", temperature)
        self.incorrect_weight = validation.optional_non_negative("loss.incorrect_weight", incorrect_weight)
        if hard_label not in ("mixed", "none"):
            raise unknown("loss.hard_label", str(hard_label), ["mixed", "none"])
        self.hard_label = hard_label
        self.smallest_classes = 1 if self.incorrect_weight is None else 3  # no similarity among fewer than two others

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return the weighted terms of the rows of logits."""
        rows, taught = paired_rows(student, teacher, target, self)
        similarity = similarity_transfer(
            rows.student,
            taught,
            rows.target.correct(rows.student.shape[1]),
            temperature=self.temperature,
            incorrect_weight=self.incorrect_weight,
            mean=rows.mean,
        )
        terms = {"similarity": self.alpha * similarity}
        if self.hard_label == "mixed":
            terms["cross_entropy"] = (1 - self.alpha) * mixed_cross_entropy(rows.student, rows.target, mean=rows.mean)
        return terms
