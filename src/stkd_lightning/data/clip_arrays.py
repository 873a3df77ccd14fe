"""A split of sound clips of any lengths, as one memory-mapped row of 16-bit samples."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class RawClips(NamedTuple):
    """A split of clips as it is read, before it is written to the cache.

    Attributes:
        labels: ``(N, C)`` uint8: 1 for a tag that is present, 0 for one that is absent, 255 where nobody knows.
        clips: waveforms ``(t,)`` int16, in the order of the labels.
    """

    labels: NDArray[np.uint8]
    clips: Iterable[NDArray[np.int16]]


class ClipSplit(NamedTuple):
    """Clips of any lengths with their tags on one device, in a row; on the CPU they are memory-mapped.

    Attributes:
        waveforms: ``(P,)`` int16: the samples of all clips.
        labels: ``(N, C)`` int64.
        lengths: ``(N,)`` int64: samples of each clip.
        starts: ``(N,)`` int64: position of each clip's first sample among the P samples.
        shortest: samples of the shortest clip.
        longest: samples of the longest clip.
    """

    waveforms: Tensor
    labels: Tensor
    lengths: Tensor
    starts: Tensor
    shortest: int
    longest: int

    @classmethod
    def of(cls, waveforms: Tensor, labels: Tensor, lengths: Tensor) -> "ClipSplit":
        """Hold clips of these lengths."""
        starts = lengths.cumsum(0) - lengths
        return cls(waveforms, labels, lengths, starts, int(lengths.min()), int(lengths.max()))

    def to(self, device: torch.device | str) -> "ClipSplit":
        """Return the split on a device; the CPU reads no sample before it is used."""
        waveforms, labels, lengths, starts = (part.to(device) for part in self[:4])
        return self._replace(waveforms=waveforms, labels=labels, lengths=lengths, starts=starts)

    @property
    def inputs(self) -> Tensor:
        """The waveforms."""
        return self.waveforms

    @property
    def samples(self) -> int:
        """Number of clips."""
        return len(self.labels)

    def clip(self, i: int) -> Tensor:
        """Return a waveform ``(t,)`` int16, without a copy."""
        start = int(self.starts[i])
        return self.waveforms[start : start + int(self.lengths[i])]

    def cut(self, indices: Tensor, length: int, first: Tensor | None = None, turn: Tensor | None = None) -> Tensor:
        """Return parts of clips, as networks take them: see ``split_clips``.

        Args:
            indices: ``(B,)`` positions in the split.
            length: T, samples of a part; shorter clips are padded with zeros.
            first: ``(B,)`` first sample of each part; ``None``: the first of the clip.
            turn: ``(B,)`` samples by which a part is turned within its own length; ``None``: 0.

        Returns:
            ``(B, T)`` int16, or ``(B, 2, T)`` if any clip of the split is shorter.
        """
        starts = self.starts.index_select(0, indices)
        if turn is None and self.shortest >= length:
            return self.waveforms.unfold(0, length, 1).index_select(0, starts if first is None else starts + first)
        place = torch.arange(length, device=indices.device)
        lengths = self.lengths.index_select(0, indices)[:, None].clamp(max=length)
        position = place if turn is None else (place - turn[:, None]) % lengths
        starts = (starts if first is None else starts + first)[:, None]
        present = place < lengths
        waveforms = self.waveforms[(starts + position).where(present, starts)].where(present, 0)
        return waveforms if self.shortest >= length else torch.stack([waveforms, present.to(waveforms.dtype)], dim=1)
