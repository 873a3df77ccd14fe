"""Pixel-wise similarity distillation, the first half of DSD: Feng et al. 2021 (arXiv:2107.08591)."""

from collections.abc import Sequence
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from stkd_lightning.losses.base import Terms
from stkd_lightning.losses.dense_loss import resized, side_text
from stkd_lightning.losses.feature_loss import Shapes, StagesLoss, check_maps
from stkd_lightning.losses.functional import unit
from stkd_lightning.models.probe import Layers
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.dtypes import at_least_float32
from stkd_lightning.utilities.errors import UndefinedError, unknown

Reduction = Literal["paper", "cirkd"]
REDUCTIONS = ("paper", "cirkd")


def pixel_similarity(student: Sequence[Tensor], teacher: Sequence[Tensor], *, include_first: bool = True) -> Tensor:
    """``mean_b [||A_1^t - A_1^s||**2 + sum_{l<L} ||R_l^t - R_l^s||**2]``, residuals ``R_l = A_{l+1} - A_l``.

    The attention map ``A_l`` of stage l is ``sum_c F_l,c**2``, resized bilinearly to the smallest height and width
    among all maps, flattened and L2-normalized. A map of zeros stays zero. The paper states the residual attention
    maps; stages, resizing and the map of the first stage are our reading.

    Args:
        student: L feature maps ``(B, C, H, W)`` of any sizes, from input to output; carry the gradient.
        teacher: L feature maps; treated as constants.
        include_first: add the difference of the first stage's maps, without which it is compared in its residual only.

    Returns:
        Scalar, dimensionless.

    Raises:
        ValueError: the tensors are not equal numbers of feature maps of one batch; or only one map each, without the
            first.
    """
    _check_hierarchies(student, teacher, 1 if include_first else 2)
    maps = (*student, *teacher)
    size = min(features.shape[2] for features in maps), min(features.shape[3] for features in maps)
    # (A_{l+1} - A_l)^t - (A_{l+1} - A_l)^s: the residual of the differences is the difference of the residuals.
    differences = torch.stack(
        [_attention(t.detach(), size) - _attention(s, size) for s, t in zip(student, teacher, strict=True)], dim=1
    )
    value = differences.diff(dim=1).square().sum((1, 2))
    return (value + differences[:, 0].square().sum(1) if include_first else value).mean()


def all_pairs_similarity(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Mean over batch, positions and pairs of maps n < m of ``(R_nm^t - R_nm^s)**2``: the public re-implementation.

    ``R_nm`` is the L2-normalized ``A_m - A_n``, and ``A_l`` the L2-normalized ``mean_c F_l,c**2`` (winycg/CIRKD,
    losses/dsd.py). It differs from ``pixel_similarity`` in the pairs, the second normalization, the mean over
    positions, and the first map, which is not compared by itself.

    Args:
        student: L >= 2 feature maps ``(B, C, H, W)`` of one size; carry the gradient.
        teacher: L feature maps of this size; treated as constants.

    Returns:
        Scalar, dimensionless.

    Raises:
        ValueError: the tensors are not equal numbers of at least two feature maps of one batch and size.
    """
    _check_hierarchies(student, teacher, 2)
    size = student[0].shape[2:]
    if any(features.shape[2:] != size for features in (*student, *teacher)):
        sizes = ", ".join(side_text(features.shape) for features in (*student, *teacher))
        raise ValueError(f"feature maps need one size, but have {sizes}; pixel_similarity resizes them")
    return (_residuals(teacher, size).detach() - _residuals(student, size)).square().mean()


def _residuals(maps: Sequence[Tensor], size: tuple[int, ...]) -> Tensor:
    # Each map by itself: a map that is read twice is rounded alike, so that its residual is exactly zero.
    attention = [_attention(features, size) for features in maps]
    return unit(torch.stack([later - earlier for earlier, later in combinations(attention, 2)], dim=1))


def _attention(features: Tensor, size: tuple[int, ...]) -> Tensor:
    return unit(resized(at_least_float32(features).square().sum(1, keepdim=True), size).flatten(1))


def _check_hierarchies(student: Sequence[Tensor], teacher: Sequence[Tensor], fewest: int) -> None:
    if len(student) != len(teacher) or len(student) < fewest:
        raise ValueError(
            f"student and teacher need equal numbers of at least {fewest} feature maps: {len(student)}, {len(teacher)}"
        )
    for features in (*student, *teacher):
        check_maps(student[0], features)


class PSDLoss(StagesLoss):
    """``pixel_similarity`` of the stages, or ``all_pairs_similarity``; term ``psd``.

    Args:
        reduction: ``paper``: ``pixel_similarity``, our reading of the paper; ``cirkd``: ``all_pairs_similarity``, which
            reads by default the scores of the auxiliary head, the last feature map and the scores. A network without
            an auxiliary head reads its own scores in place of the auxiliary ones.
        include_first: of ``pixel_similarity``.
        student_layers: module paths, from input to output; see ``FeatureLoss``.
        teacher_layers: module paths.

    Raises:
        InputError: an argument outside its range; in ``prepare``, too few layers, or with ``cirkd`` maps of different
            sizes.
    """

    traceable = True

    def __init__(
        self,
        *,
        reduction: Reduction = "paper",
        include_first: bool = True,
        student_layers: str | Sequence[str] | None = None,
        teacher_layers: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(student_layers=student_layers, teacher_layers=teacher_layers)
        if reduction not in REDUCTIONS:
            raise unknown("loss.reduction", str(reduction), REDUCTIONS)
        self.reduction: Reduction = reduction
        self.include_first = validation.switch("loss.include_first", include_first)

    def default_layers(self, layers: Layers) -> tuple[str, ...]:  # type: ignore[override]
        """Return all stages; with ``cirkd`` the auxiliary head, the last feature map and the scores."""
        if self.reduction == "paper":
            return layers.stages
        return (layers.auxiliary or layers.head, layers.embedding, layers.head)

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Refuse too few layers, and with ``cirkd`` maps of different sizes."""
        residuals_only = self.reduction == "cirkd" or not self.include_first
        if len(student) < 2 and residuals_only:
            raise UndefinedError(
                f"PSDLoss: compares residuals between layers, so it needs 2 layers, not {len(student)}"
            )
        if self.reduction == "cirkd" and len({shape[2:] for shape in (*student, *teacher)}) > 1:
            raise UndefinedError(
                f"PSDLoss: reduction=cirkd compares maps of one size, not {_sizes(self.features.student, student)} of "
                f"the student and {_sizes(self.features.teacher, teacher)} of the teacher; reduction=paper resizes"
            )

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"psd"}`` of feature maps ``(B, C, H, W)``."""
        student_maps, teacher_maps = zip(*self.pairs(student, teacher), strict=True)
        if self.reduction == "cirkd":
            return {"psd": all_pairs_similarity(student_maps, teacher_maps)}
        return {"psd": pixel_similarity(student_maps, teacher_maps, include_first=self.include_first)}


def _sizes(paths: tuple[str, ...], shapes: Shapes) -> str:
    return ", ".join(f"{path} {side_text(shape)}" for path, shape in zip(paths, shapes, strict=True))
