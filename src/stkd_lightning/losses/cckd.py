"""Correlation Congruence for Knowledge Distillation: Peng et al. 2019, Sec. 3.2 to 3.4 (arXiv:1904.01802)."""

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from stkd_lightning.losses.base import Terms, full_precision
from stkd_lightning.losses.feature_loss import PairwiseLoss, Shapes, check_pairs, embed, global_batch
from stkd_lightning.losses.functional import unit
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import unknown

Kernel = Literal["gaussian", "bilinear"]
KERNELS = ("gaussian", "bilinear")


def correlation_congruence(
    student: Tensor, teacher: Tensor, *, kernel: Kernel = "gaussian", gamma: float = 0.4, order: int = 2
) -> Tensor:
    """``1 / B**2 sum_ij (k(f_i^t, f_j^t) - k(f_i^s, f_j^s))**2`` of L2-normalized embeddings f.

    The Gaussian kernel is its Taylor series around 0, of order P (Sec. 3.3)::

        k(x, y) = exp(-2 gamma) sum_{p=0..P} (2 gamma)**p / p! (x . y)**p

    and the bilinear kernel is ``x . y``.

    Args:
        student: embeddings ``(B, ...)``; carries the gradient.
        teacher: embeddings ``(B, ...)`` of any size; treated as a constant.
        kernel: ``gaussian`` or ``bilinear``.
        gamma: > 0, of the Gaussian.
        order: P >= 1.

    Returns:
        Scalar, dimensionless.

    Raises:
        InputError: the batch has one sample.
        ValueError: the batches have different sizes.
    """
    return _congruence(student, teacher.detach(), kernel=kernel, gamma=gamma, order=order)


@full_precision
def _congruence(student: Tensor, teacher: Tensor, *, kernel: Kernel, gamma: float, order: int) -> Tensor:
    check_pairs(student, teacher)

    def correlations(features: Tensor) -> Tensor:
        direction = unit(features.flatten(1))
        cosine = direction @ direction.T
        if kernel == "bilinear":
            return cosine
        terms = [(2 * gamma) ** p / math.factorial(p) * cosine**p for p in range(order + 1)]
        return math.exp(-2 * gamma) * sum(terms[1:], terms[0])

    return (correlations(teacher) - correlations(student)).square().mean()


class CCKDLoss(PairwiseLoss):
    """``correlation_congruence`` over the global batch, by default of the pooled features; term ``cckd``.

    The paper's full objective also contains the divergence of the softened logits (instance congruence), which
    ``conf/loss/cckd.yaml`` adds. The order of the batch does not matter, unlike in a common variant that compares
    neighbouring rows.

    Args:
        kernel: ``gaussian`` or ``bilinear``.
        gamma: > 0, of the Gaussian.
        order: >= 1, of the Gaussian's Taylor series.
        embedding_width: >= 1, output size of a linear map of each network's features, trained with the student;
            ``None``: no map. A constant map makes the term 0, so the other terms must prevent this.
        student_layers: module path; see ``FeatureLoss``.
        teacher_layers: module path.

    Raises:
        InputError: an argument outside its range.
    """

    traceable = True

    def __init__(
        self,
        *,
        kernel: Kernel = "gaussian",
        gamma: float = 0.4,
        order: int = 2,
        embedding_width: int | None = None,
        student_layers: str | Sequence[str] | None = None,
        teacher_layers: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(student_layers=student_layers, teacher_layers=teacher_layers)
        if kernel not in KERNELS:
            raise unknown("loss.kernel", str(kernel), KERNELS)
        self.kernel: Kernel = kernel
        self.gamma = validation.positive("loss.gamma", gamma)
        self.order = validation.whole("loss.order", order, minimum=1)
        self.embedding_width = validation.optional_whole("loss.embedding_width", embedding_width, minimum=1)
        self.learns = self.embedding_width is not None
        self.student_embedding: nn.Module = nn.Flatten()
        self.teacher_embedding: nn.Module = nn.Flatten()

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Create the linear maps, if ``embedding_width`` is set."""
        if self.embedding_width is not None:
            self.student_embedding, self.teacher_embedding = (
                nn.Sequential(nn.Flatten(), nn.Linear(shapes[0][1:].numel(), self.embedding_width))
                for shapes in (student, teacher)
            )

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"cckd"}`` of features ``(B, ...)``."""
        ((student_features, teacher_features),) = self.pairs(student, teacher)
        value = _congruence(
            global_batch(embed(self.student_embedding, student_features)),
            global_batch(embed(self.teacher_embedding, teacher_features)),
            kernel=self.kernel,
            gamma=self.gamma,
            order=self.order,
        )
        return {"cckd": value}
