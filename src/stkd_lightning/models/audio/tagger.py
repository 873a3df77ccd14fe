"""A tagger: a front end, and a network that reads its log-mel spectrogram."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from torch import Tensor, nn

from stkd_lightning.models.audio.log_mel import LogMel
from stkd_lightning.models.audio.pooling import FramePooling, Pooling
from stkd_lightning.models.layers import Layers
from stkd_lightning.models.weights import load_weights
from stkd_lightning.tasks.clips import frame_mask, split_clips


class FrameNetwork(Protocol):
    """A network from log-mel spectrograms to frames."""

    width: int  # D of the frames

    def __call__(self, spectrogram: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return frames ``(B, T, D)`` of spectrograms ``(B, 1, N, mels)``; ``mask`` as in ``SpectrogramTagger``."""


class SpectrogramTagger(nn.Module):
    """Log-mel spectrograms ``(B, 1, N, mels)`` to logits ``(B, C)``: frames, pooling over time, linear classifier.

    Args:
        frames: spectrograms to frames ``(B, T, D)``.
        num_classes: C.
        pooling: kind of ``FramePooling``.
    """

    def __init__(self, frames: nn.Module, num_classes: int, pooling: Pooling) -> None:
        super().__init__()
        width = cast(FrameNetwork, frames).width
        self.frames, self.pooling = frames, FramePooling(pooling, width)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, spectrogram: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits; ``mask`` ``(B, L)`` bool says which part of each clip is no padding, at any rate."""
        frames = self.frames(spectrogram, mask)
        return self.classifier(self.pooling(frames, None if mask is None else frame_mask(frames.shape[1], mask)))

    def frame_logits(self, spectrogram: Tensor) -> Tensor:
        """Return the logits of each frame as if it were the whole clip, ``(B, T, C)``."""
        return self.classifier(self.frames(spectrogram))


class Tagger(nn.Module):
    """Waveforms to logits ``(B, C)``.

    Args:
        front_end: waveforms to log-mel spectrograms.
        network: spectrograms to logits.
        weights: checkpoint to load, in any format of ``load_weights``.
        weights_key: which weights of the checkpoint, if several fit.

    Raises:
        InputError: weights that do not fit.
    """

    def __init__(
        self,
        front_end: LogMel,
        network: SpectrogramTagger,
        weights: str | Path | None = None,
        weights_key: str | None = None,
    ) -> None:
        super().__init__()
        self.front_end, self.network = front_end, network
        if weights is not None:
            load_weights(self, weights, weights_key)

    @property
    def feature_layers(self) -> Layers:
        """The stages of the frames' network, its frames, pooling and classifier."""
        stages: Sequence[str] = getattr(self.network.frames, "stages", ())
        paths = tuple(f"network.frames.{stage}" for stage in stages)
        pooled = paths[-1] if paths else ""
        return Layers(paths, pooled, "network.pooling", "network.classifier", frames="network.frames")

    def forward(self, clips: Tensor) -> Tensor:
        """Return logits of clips: waveforms ``(B, T)``, or ``(B, 2, T)`` with padding (see ``split_clips``)."""
        waveforms, mask = split_clips(clips)
        return self.network(self.front_end(waveforms), mask)
