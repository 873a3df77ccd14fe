"""Clips of unequal lengths in one tensor, and the frames that networks have for them."""

import torch
from torch import Tensor


def split_clips(inputs: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the waveforms of clips, and which of their samples are no padding.

    Args:
        inputs: waveforms ``(B, T)`` without padding; or ``(B, 2, T)``: waveforms, and numbers that are above 0 for
            samples of a clip and 0 for padding. So a mixed clip is as long as the longest of its parts.

    Returns:
        Waveforms ``(B, T)``, and ``(B, T)`` bool or ``None``.
    """
    if inputs.ndim == 3 and inputs.shape[1] == 2:
        return inputs[:, 0], inputs[:, 1] > 0
    return inputs, None


def valid_frames(frames: int, mask: Tensor) -> Tensor:
    """Return the number of frames ``(B,)`` of a network that are no padding, ``ceil(T n / L)``.

    Args:
        frames: T, of the longest clip.
        mask: ``(B, L)`` bool, true for the n first positions of each clip, which are no padding, at any rate.
    """
    return (mask.sum(1) * frames + mask.shape[1] - 1) // mask.shape[1]


def frame_mask(frames: int, mask: Tensor) -> Tensor:
    """Return which frames ``(B, T)`` of a network are no padding; arguments as in ``valid_frames``."""
    return torch.arange(frames, device=mask.device) < valid_frames(frames, mask)[:, None]
