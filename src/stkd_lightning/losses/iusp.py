"""Intra-utterance similarity preserving distillation: Chang et al. 2020, Sec. 3 (arXiv:2009.01759)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from stkd_lightning.losses.base import Terms, full_precision
from stkd_lightning.losses.feature_loss import FeatureLoss
from stkd_lightning.losses.functional import unit
from stkd_lightning.models.layers import Layers
from stkd_lightning.tasks.clips import valid_frames
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext


@full_precision
def intra_utterance_similarity(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """``mean_i ||G_i^t - G_i^s||_F**2 / T_i**2`` of the inner products of a clip's frames, with L2-normalized rows.

    ``G_i = F_i F_i^T`` of the valid frames ``F_i`` ``(T_i, d)``. Where the networks have different frame rates, the
    valid frames of the higher rate are averaged to the number of the lower one. A frame of zeros gives a row of zeros.
    The paper states the idea; normalization and averages are those of SP (arXiv:1907.09682).

    Args:
        student: frames ``(B, T, d)``; carries the gradient.
        teacher: frames ``(B, T', d')``; treated as a constant.
        mask: ``(B, L)`` bool, true for the valid first positions of each clip, at any rate: of n valid positions a
            network has ``ceil(T n / L)`` valid frames. ``None``: all are valid.

    Returns:
        Scalar, dimensionless.

    Raises:
        ValueError: the tensors are not frames of one batch, or the mask is of another batch.

    Example:
        >>> import torch
        >>> from stkd_lightning.losses import intra_utterance_similarity
        >>> teacher = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        >>> intra_utterance_similarity(torch.ones(1, 2, 1), teacher)  # rows (1, 1) / sqrt 2, and (1, 0), (0, 1)
        tensor(0.2929)
    """
    _check_frames(student, teacher, mask)
    length = min(student.shape[1], teacher.shape[1])
    valid = None if mask is None else valid_frames(length, mask)
    own, other = (_at_rate(frames, length, mask) for frames in (student, teacher.detach()))
    squares = (_similarities(other) - _similarities(own)).square()
    return squares.mean() if valid is None else (squares.sum((1, 2)) / valid.to(squares.dtype).square()).mean()


def _similarities(frames: Tensor) -> Tensor:
    return unit(frames @ frames.transpose(1, 2))


def _at_rate(frames: Tensor, length: int, mask: Tensor | None) -> Tensor:
    """Average the valid frames ``(B, T, d)`` to the rate at which the longest clip has ``length``; others are zero."""
    if mask is None:
        return frames if frames.shape[1] == length else F.adaptive_avg_pool1d(frames.transpose(1, 2), length).mT
    source, pooled = (valid_frames(n, mask).view(-1, 1, 1) for n in (frames.shape[1], length))
    row = torch.arange(length, device=frames.device).view(1, -1, 1)
    column = torch.arange(frames.shape[1], device=frames.device).view(1, 1, -1)
    # The fields of adaptive pooling: frame j averages those from floor(j S / P) to ceil((j + 1) S / P).
    first, end = row * source // pooled, ((row + 1) * source + pooled - 1) // pooled
    inside = ((column >= first) & (column < end) & (row < pooled)).to(frames.dtype)
    fields = inside / inside.sum(2, keepdim=True).clamp(min=1)
    return fields @ frames.masked_fill(column.mT >= source, 0)


def _check_frames(student: Tensor, teacher: Tensor, mask: Tensor | None) -> None:
    if student.ndim != 3 or teacher.ndim != 3 or len(student) != len(teacher):
        raise ValueError(
            f"student and teacher need frames (B, T, d) of one batch: {tuple(student.shape)}, {tuple(teacher.shape)}"
        )
    if mask is not None and (mask.ndim != 2 or len(mask) != len(student)):
        raise ValueError(f"the mask (B, L) needs the batch of the frames: {tuple(mask.shape)}, {tuple(student.shape)}")


class IUSPLoss(FeatureLoss):
    """``intra_utterance_similarity`` of a layer's frames; term ``iusp``.

    Args:
        student_layers: module path; see ``FeatureLoss``; by default the frames that the network declares. A map
            ``(B, C, T, F)`` gives the frames ``(B, T, C F)``.
        teacher_layers: module path.
    """

    traceable = True
    dimensions = (3, 4)
    reads_one = True
    reads = "frames"

    @staticmethod
    def default_layers(layers: Layers) -> tuple[str, ...]:
        """Return the module that gives the frames."""
        return (layers.frames,) if layers.frames else ()

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"iusp"}`` of frames ``(B, T, d)`` or maps ``(B, C, T, F)``."""
        ((own, other),) = self.pairs(student, teacher)
        return {"iusp": intra_utterance_similarity(_frames(own), _frames(other), mask=target.mask)}


def _frames(features: Tensor) -> Tensor:
    return features if features.ndim == 3 else features.transpose(1, 2).flatten(2)
