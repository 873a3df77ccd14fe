"""Multi-level logit distillation: Jin et al. 2023 (CVPR), as the authors' public code computes it."""

from typing import Literal

import torch
from torch import Tensor

from stkd_lightning.losses.base import Loss, Terms, check_logits, full_precision, require_teacher
from stkd_lightning.losses.feature_loss import global_batch
from stkd_lightning.losses.kd import softened_kl
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.distributed import gather, world
from stkd_lightning.utilities.dtypes import at_least_float32
from stkd_lightning.utilities.errors import InputError, unknown

OTHERS = (3.0, 5.0, 2.0, 6.0)  # temperatures beside the first
MASKS = ("batch", "rows")


@full_precision
def class_correlation(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Squared differences of the correlations between classes, ``(P_t^T P_t - P_s^T P_s)**2``, summed per class.

    Args:
        student: logits ``(B, C)`` of the global batch; carries the gradient.
        teacher: logits ``(B, C)``; treated as a constant.
        temperature: T > 0 of both softmaxes P.

    Returns:
        ``(C,)``; their mean is the term of the paper.
    """
    check_logits(student, teacher)
    q, p = (student / temperature).softmax(1), (teacher.detach() / temperature).softmax(1)
    return (p.T @ p - q.T @ q).square().sum(1)


@full_precision
def batch_correlation(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Squared differences of the correlations between samples, ``(P_t P_t^T - P_s P_s^T)**2``, summed per sample.

    Arguments as in ``class_correlation``.

    Returns:
        ``(B,)``; their mean is the term of the paper.
    """
    check_logits(student, teacher)
    q, p = (student / temperature).softmax(1), (teacher.detach() / temperature).softmax(1)
    return (p @ p.T - q @ q.T).square().sum(1)


class MLKDLoss(Loss):
    """Distillation of instances, classes and batches at several temperatures; a term each, with the prefix ``mlkd_``.

    It reads a batch of two views, the weak ones w first and then the strong ones s (``StrongView``). With
    ``KD_T = T**2 KL(p_t || p_s)``, and the means CC_T of ``class_correlation`` and BC_T of ``batch_correlation``::

        instance: sum_{T in {4, 3, 5, 2, 6}} m KD_T(w) + sum_{T in {4, 3, 5}} KD_T(s) + KD_2(w) + KD_6(w)
        class:    sum_T n CC_T(w)
        batch:    sum_T m BC_T(w)

    The code multiplies each scalar by a mask and takes the mean. So m is the share of samples whose top probability of
    the teacher, in the weak view, is at or below the median of the batch; n is that of classes by their summed
    probability. In the paper the masks select samples and classes. The authors add 0.1 (CE(w) + CE(s)) and weigh the
    terms by 0.9.

    Args:
        temperature: T > 0, the first of the temperatures; 3, 5, 2 and 6 stay.
        standardize: whether KD_T compares standardized logits (arXiv:2403.01427), with temperature 2 and weight 9 in
            place of 4 and 0.9.
        mask: ``"batch"``: the code's shares m and n; ``"rows"``: the samples and classes themselves, our reading of the
            paper.

    Raises:
        InputError: an argument is outside its range.
    """

    dense = False
    exclusive = True
    needs_labels = False
    needs_views = True
    other_temperatures = OTHERS
    smallest_batch = 2

    def __init__(
        self, *, temperature: float = 4.0, standardize: bool = False, mask: Literal["batch", "rows"] = "batch"
    ) -> None:
        super().__init__()
        self.temperature = validation.positive("loss.temperature", temperature)
        self.standardize = validation.switch("loss.standardize", standardize)
        if mask not in MASKS:
            raise unknown("loss.mask", str(mask), MASKS)
        self.mask = mask
        self.smallest_classes = 3 if self.standardize else 1

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return the three terms of logits ``(2 B, C)``.

        Raises:
            InputError: an odd number of rows.
        """
        logits = require_teacher(teacher, self).logits
        check_logits(student.logits, logits)
        if len(logits) % 2:
            raise InputError("MLKDLoss: needs a weak and a strong view of each image; set mixup=strong_view")
        weak, strong = student.logits.chunk(2)
        taught_weak, taught_strong = logits.detach().chunk(2)
        every, taught_every, first = global_batch(weak), gather(taught_weak), world()[0] * len(weak)
        samples, classes = masks(taught_every)
        if self.mask == "batch":
            samples, classes = samples.mean().expand_as(samples), classes.mean().expand_as(classes)
        own = samples[first : first + len(weak)]

        temperatures = (self.temperature, *OTHERS)
        instance = [self._kd(weak, taught_weak, t, own) for t in temperatures]
        instance += [self._kd(strong, taught_strong, t) for t in temperatures[:3]]
        instance += [self._kd(weak, taught_weak, t) for t in temperatures[3:]]
        of_classes = [(classes * class_correlation(every, taught_every, temperature=t)).mean() for t in temperatures]
        of_batch = [(samples * batch_correlation(every, taught_every, temperature=t)).mean() for t in temperatures]
        named = {"instance": instance, "class": of_classes, "batch": of_batch}
        return {f"mlkd_{name}": torch.stack(values).sum() for name, values in named.items()}

    def _kd(self, student: Tensor, teacher: Tensor, temperature: float, weights: Tensor | None = None) -> Tensor:
        def mean(values: Tensor) -> Tensor:
            return (values if weights is None else weights * values).mean()

        return softened_kl(student, teacher, temperature=temperature, standardize=self.standardize, mean=mean)


def masks(teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return which samples and which classes are at or below the median of the batch.

    Args:
        teacher: logits ``(B, C)`` of the global batch.

    Returns:
        ``(B,)`` by the top probability, ``(C,)`` by the probability summed over the batch; 1 or 0.
    """
    probabilities = at_least_float32(teacher).softmax(1)
    top, summed = probabilities.amax(1), probabilities.sum(0)
    return (top <= top.quantile(0.5)).to(top.dtype), (summed <= summed.quantile(0.5)).to(summed.dtype)
