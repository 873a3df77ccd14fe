"""Pooling of a clip's frames, over the frames that are no padding."""

from typing import Literal, cast

import torch
from torch import Tensor, nn

from stkd_lightning.utilities.errors import unknown

Pooling = Literal["mean", "max", "mean_max", "attention"]
POOLINGS = ("mean", "max", "mean_max", "attention")


class FramePooling(nn.Module):
    """Frames ``(B, T, D)`` to one vector ``(B, D)`` for each clip.

    Args:
        kind: ``mean``; ``max``; ``mean_max``: their sum (Kong et al. 2020, arXiv:1912.10211); ``attention``: a mean
            with learned weights, the softmax over time of a linear function of each frame.
        width: D.

    Raises:
        InputError: an unknown kind.
    """

    def __init__(self, kind: Pooling, width: int) -> None:
        super().__init__()
        if kind not in POOLINGS:
            raise unknown("pooling", str(kind), POOLINGS)
        self.kind = kind
        self.attention = nn.Linear(width, 1) if kind == "attention" else None

    def extra_repr(self) -> str:
        """Return the kind, for ``repr``."""
        return self.kind

    def forward(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool the frames that are no padding.

        Args:
            frames: ``(B, T, D)``.
            mask: ``(B, T)`` bool; ``None``: no frame is padding.
        """
        padding = None if mask is None else ~mask[..., None]
        if self.attention is not None:
            scores = self.attention(frames)
            scores = scores if padding is None else scores.masked_fill(padding, -torch.inf)
            return (scores.softmax(1) * frames).sum(1)
        mean = largest = None
        if self.kind != "max":
            mean = frames.mean(1) if mask is None else _mean(frames, mask)
        if self.kind != "mean":
            # Not amax: compiled in bfloat16, its gradient compares frames of two precisions and finds no maximum.
            largest = (frames if padding is None else frames.masked_fill(padding, -torch.inf)).max(1).values
        if mean is None or largest is None:
            return cast(Tensor, largest if mean is None else mean)
        return mean + largest


def _mean(frames: Tensor, mask: Tensor) -> Tensor:
    exact = torch.promote_types(frames.dtype, torch.float32)  # bfloat16 counts to 256 only
    return (frames.masked_fill(~mask[..., None], 0).sum(1, dtype=exact) / mask.sum(1, keepdim=True)).to(frames.dtype)
