"""Similarity Transfer for Knowledge Distillation: Zhao et al. 2021 (arXiv:2103.10047).

The paper's abstract states: virtual samples by mixup; a loss on the mixed labels and on the similarities of the
incorrect classes; similar distributions of teacher and student on the virtual sample. The abstract gives no equation,
so the objective of ``STKDLoss`` and the split of its divergence at the mixed label are our interpretation. Its settings
were chosen on validation images: alpha and temperature as in KD, the exact divergence, and light mixing by
Beta(0.2, 0.2); ``conf/loss/stkd.yaml`` names the tables.
"""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from stkd_lightning.losses.base import Loss, Terms, check_logits, paired_rows
from stkd_lightning.losses.cross_entropy import mixed_cross_entropy
from stkd_lightning.losses.functional import softened
from stkd_lightning.losses.kd import softened_kl
from stkd_lightning.tasks.types import Mean, MixedTarget, ModelOutput, Rows, StepContext
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import unknown

HARD_LABELS = ("mixed", "clean", "teacher", "none")


def similarity_transfer(
    student: Tensor,
    teacher: Tensor,
    correct: Tensor,
    *,
    temperature: float = 4.0,
    incorrect_weight: float | None = None,
    standardize: bool = False,
    mean: Mean = torch.mean,
) -> Tensor:
    """``T**2 * KL(teacher || student)``, split at the set of correct classes.

    p and q are the softmaxes of teacher and student at temperature T, S is the set of correct classes, c and d are the
    masses that p and q give to the incorrect classes, and hats are distributions renormalized over these classes::

        KL = sum_{j in S} p_j log(p_j / q_j) + c log(c / d) + c * KL(p_hat || q_hat)

    Args:
        student: logits ``(B, K)``; carries the gradient.
        teacher: logits ``(B, K)``; treated as a constant.
        correct: bool ``(B, K)``; the classes with positive weight in the mixed label. If all classes are correct, the
            two terms of the incorrect classes are 0 with finite gradients.
        temperature: T > 0.
        incorrect_weight: replaces the last factor c; ``None`` keeps c, which gives the exact divergence.
        standardize: whether the logits of each sample are standardized first (``functional.standardized``).
        mean: mean over the samples ``(B,)``; a task that ignores some rows passes a mean over its valid rows.

    Returns:
        Scalar, T**2 * nats per example, averaged over the batch.

    Raises:
        ValueError: the shapes differ.

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
        return softened_kl(student, teacher, temperature=temperature, standardize=standardize, mean=mean)
    target, within, _ = divergence_parts(student, teacher, correct, temperature=temperature, standardize=standardize)
    return temperature**2 * mean(target + incorrect_weight * within)


def divergence_parts(
    student: Tensor, teacher: Tensor, correct: Tensor, *, temperature: float, standardize: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Split the divergence of each sample at its correct classes.

    Args:
        student: logits ``(B, K)``.
        teacher: logits ``(B, K)``; treated as a constant.
        correct: bool ``(B, K)``; the classes with positive weight in the mixed label.
        temperature: T > 0.
        standardize: whether the logits of each sample are standardized first.

    Returns:
        Three tensors ``(B,)``: the divergence between each correct class and all incorrect classes together; the
        divergence among the incorrect classes, renormalized; the teacher's mass of the incorrect classes. The whole
        divergence is the first plus the third times the second.
    """
    log_student = softened(student, temperature, standardize=standardize)
    log_teacher = softened(teacher.detach(), temperature, standardize=standardize)
    difference = log_teacher - log_student

    incorrect = ~correct
    has_incorrect = incorrect.any(1)
    # A row without incorrect classes sums over all classes, so that its gradient stays finite.
    summed = incorrect | ~has_incorrect[:, None]
    log_mass_student = log_student.masked_fill(~summed, -torch.inf).logsumexp(1)
    log_mass_teacher = log_teacher.masked_fill(~summed, -torch.inf).logsumexp(1)
    mass_difference = log_mass_teacher - log_mass_student

    among_correct = (log_teacher.exp() * difference).masked_fill(~correct, 0).sum(1)
    mass = log_mass_teacher.exp()
    renormalized = (log_teacher - log_mass_teacher[:, None]).masked_fill(~summed, -torch.inf).exp()
    within = (renormalized * (difference - mass_difference[:, None])).sum(1)

    zero = torch.zeros_like(within)
    between = torch.where(has_incorrect, mass * mass_difference, zero)
    return among_correct + between, torch.where(has_incorrect, within, zero), torch.where(has_incorrect, mass, zero)


class STKDLoss(Loss):
    """``(1 - alpha) CE(mixed y, p_s) + alpha T**2 KL(p_t || p_s)`` on virtual samples, and on clean ones beside them.

    Terms ``similarity`` and ``cross_entropy``. With a ``mixed_weight`` m the similarity of clean rows and that of mixed
    rows have a mean each, 0 without such rows, and there is a term ``similarity_mixed``::

        (1 - alpha) H + alpha (D_clean + m D_mixed)

    Clean rows are those that the draw did not mix (``MixedTarget.clean``): the first half of a batch with
    ``mixup.keep``, and the rows that ``mixup.fraction`` leaves.

    Args:
        alpha: share of the similarity term, in [0, 1].
        temperature: T > 0.
        incorrect_weight: weight >= 0 of the similarity among the incorrect classes; ``None``: the teacher's mass of
            these classes, which gives the exact divergence.
        hard_label: H, ``"mixed"``: the cross-entropy with the mixed label, a mean over all rows; ``"clean"``: over the
            clean rows only, which mixing must leave; ``"teacher"``: of the clean rows with their label and, as the term
            ``cross_entropy_mixed``, of the mixed rows with the teacher's first class, a mean each; ``"none"``: 0.
        mixed_weight: m >= 0; ``None``: one mean over all rows, in which each row counts the same.
        standardize: whether the similarity term compares standardized logits (arXiv:2403.01427); such rows need three
            classes.

    Raises:
        InputError: an argument is outside its range.

    Example:
        >>> import torch
        >>> from stkd_lightning import MixedTarget, ModelOutput
        >>> from stkd_lightning.losses import STKDLoss
        >>> student, teacher = ModelOutput(torch.zeros(1, 4)), ModelOutput(torch.tensor([[4.0, 4.0, 2.0, 0.0]]))
        >>> STKDLoss(alpha=0.9)(student, teacher, MixedTarget(torch.tensor([[0, 1]]), torch.tensor([[0.6, 0.4]])))
        {'similarity': tensor(1.0168), 'cross_entropy': tensor(0.1386)}
    """

    traceable = True

    def __init__(
        self,
        *,
        alpha: float = 0.9,
        temperature: float = 4.0,
        incorrect_weight: float | None = None,
        hard_label: Literal["mixed", "clean", "teacher", "none"] = "mixed",
        mixed_weight: float | None = None,
        standardize: bool = False,
    ) -> None:
        super().__init__()
        self.alpha = validation.unit_interval("loss.alpha", alpha)
        self.temperature = validation.positive("loss.temperature", temperature)
        self.incorrect_weight = validation.optional_non_negative("loss.incorrect_weight", incorrect_weight)
        if hard_label not in HARD_LABELS:
            raise unknown("loss.hard_label", str(hard_label), HARD_LABELS)
        self.hard_label = hard_label
        self.mixed_weight = validation.optional_non_negative("loss.mixed_weight", mixed_weight)
        needs = {"loss.hard_label=clean": hard_label == "clean", "loss.mixed_weight=0": self.mixed_weight == 0}
        self.needs_clean = next((option for option, given in needs.items() if given), "")
        self.standardize = validation.switch("loss.standardize", standardize)
        self.needs_labels = self.incorrect_weight is not None
        # Two incorrect classes to compare; rows of two classes are standardized to two constants.
        self.smallest_classes = 1 if self.incorrect_weight is None and not self.standardize else 3

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return the weighted terms of the rows of logits."""
        rows, teacher_rows = paired_rows(student, teacher, target, self)
        clean, mixed = rows.split() if self._splits else (rows, rows)
        if self.mixed_weight is None:
            terms = {"similarity": self.alpha * self._similarity(rows, teacher_rows, rows.mean)}
        else:
            of_rows = self._similarity(rows, teacher_rows, lambda values: values)
            terms = {
                "similarity": self.alpha * clean.mean(of_rows),
                "similarity_mixed": self.alpha * self.mixed_weight * mixed.mean(of_rows),
            }
        if self.hard_label != "none":
            labelled = rows if self.hard_label == "mixed" else clean
            cross_entropy = mixed_cross_entropy(rows.student, rows.target, mean=labelled.with_label().mean)
            terms["cross_entropy"] = (1 - self.alpha) * cross_entropy
        if self.hard_label == "teacher":
            first = MixedTarget.unmixed(teacher_rows.detach().argmax(1))
            first = replace(first, class_weights=rows.target.class_weights)
            cross_entropy = mixed_cross_entropy(rows.student, first, mean=mixed.mean)
            terms["cross_entropy_mixed"] = (1 - self.alpha) * cross_entropy
        return terms

    @property
    def _splits(self) -> bool:
        return self.mixed_weight is not None or self.hard_label in ("clean", "teacher")

    def _similarity(self, rows: Rows, teacher: Tensor, mean: Mean) -> Tensor:
        if self.incorrect_weight is None:
            return softened_kl(
                rows.student, teacher, temperature=self.temperature, standardize=self.standardize, mean=mean
            )
        return similarity_transfer(
            rows.student,
            teacher,
            rows.target.correct(rows.student.shape[1]),
            temperature=self.temperature,
            incorrect_weight=self.incorrect_weight,
            standardize=self.standardize,
            mean=mean,
        )
