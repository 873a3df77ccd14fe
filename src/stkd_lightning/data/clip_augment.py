"""Augmentation of clips: crop, turn in time, and masks in time and frequency (SpecAugment).

SpecAugment, Park et al. 2019, Sec. 2 (arXiv:1904.08779), masks log-mel spectrograms. Here the masks are cut out of the
waveform, so that two networks with different front ends see the same masks.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stkd_lightning.data.clip_arrays import ClipSplit
from stkd_lightning.utilities.random import sample_uniforms

BELOW_1 = np.float32(1 - 2**-24)
MEL = 700.0  # Hz: mel = log(1 + f / 700), up to a factor


@dataclass(frozen=True)
class ClipAugmentation:
    """The augmentation of training clips; labels do not change.

    Attributes:
        length: samples of a training clip; of longer clips a part is drawn uniformly.
        shift: largest turn in time, in samples: what leaves at one end enters at the other.
        time_masks: number of parts that are silent.
        time_mask: largest part, as a share in [0, 1] of the length.
        band_masks: number of frequency bands that are removed.
        band_mask: widest band, as a share in [0, 1] of the mel scale.
        sample_rate: Hz.
    """

    length: int
    shift: int = 0
    time_masks: int = 0
    time_mask: float = 0.1
    band_masks: int = 0
    band_mask: float = 0.1
    sample_rate: int = 16000
    per_image: ClassVar[bool] = False

    def draw(self, indices: NDArray[np.int64], *, seed: int, epoch: int) -> tuple[Tensor, ...]:
        """Draw place of the part, turn, and place and width of each mask, as numbers in [0, 1): ``(N,)`` each.

        A sample's draw is a function of (seed, epoch, index).
        """
        masks = [f"{kind} {i}" for kind, n in (("time", self.time_masks), ("band", self.band_masks)) for i in range(n)]
        purposes = ["crop", "shift", *(f"{mask} {part}" for mask in masks for part in ("place", "width"))]
        numbers = (sample_uniforms(seed, purpose, epoch, indices) for purpose in purposes)
        return tuple(torch.from_numpy(values.astype(np.float32).clip(max=BELOW_1)) for values in numbers)

    def images(self, split: ClipSplit, indices: Tensor, draws: tuple[Tensor, ...]) -> Tensor:
        """Return clips ``(B, T)`` or ``(B, 2, T)`` in levels of 16 bits; see ``split_clips``."""
        crop, shift, *masks = draws
        spare = (split.lengths.index_select(0, indices) - self.length).clamp(min=0) + 1
        turn = ((2 * shift - 1) * (self.shift + 1)).trunc().long() if self.shift else None
        # In float32 a product can be rounded up to the number of places.
        clips = split.cut(indices, self.length, torch.minimum((crop * spare).long(), spare - 1), turn)
        pairs = [(masks[i], masks[i + 1]) for i in range(0, len(masks), 2)]
        if not pairs:
            return clips
        waveforms, *present = clips.float().unbind(1) if clips.ndim == 3 else (clips.float(),)
        waveforms = self._without_bands(waveforms, pairs[self.time_masks :])
        for place, width in pairs[: self.time_masks]:
            waveforms = self._silenced(waveforms, place, width)
        return torch.stack([waveforms, *present], dim=1) if present else waveforms

    def labels(self, split: ClipSplit, indices: Tensor, draws: tuple[Tensor, ...]) -> Tensor:
        """Return the labels of the split."""
        return split.labels.index_select(0, indices)

    def _silenced(self, waveforms: Tensor, place: Tensor, width: Tensor) -> Tensor:
        time = torch.arange(self.length, device=waveforms.device)
        size = width * self.time_mask * self.length
        first = (place * (self.length - size))[:, None]
        return waveforms.masked_fill((time >= first) & (time < first + size[:, None]), 0)

    def _without_bands(self, waveforms: Tensor, masks: list[tuple[Tensor, Tensor]]) -> Tensor:
        if not masks:
            return waveforms
        spectrum = torch.fft.rfft(waveforms)
        hertz = torch.arange(spectrum.shape[1], device=waveforms.device) * (self.sample_rate / self.length)
        mel = torch.log1p(hertz / MEL)
        for place, width in masks:
            size = width * self.band_mask * mel[-1]
            first = (place * (mel[-1] - size))[:, None]
            spectrum = spectrum.masked_fill((mel >= first) & (mel < first + size[:, None]), 0)
        return torch.fft.irfft(spectrum, n=self.length)
