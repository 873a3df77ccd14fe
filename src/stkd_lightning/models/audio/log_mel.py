"""The log-mel front end: Hershey et al. 2017, Sec. 2.2 (arXiv:1609.09430); its settings for 16 kHz are the defaults."""

import math

import torch
from torch import Tensor, nn

from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import InputError

ALIGNED = 16  # frequencies: rows of so many numbers begin at a line of the CPU's cache, which is a fifth faster
LARGEST = 2**15  # samples of a transform, whose matrix takes 4 GiB then


class LogMel(nn.Module):
    """``log(M |X| + offset)`` of the magnitudes of a short-time Fourier transform: ``(B, T)`` to ``(B, 1, N, mels)``.

    There are ``N = 1 + floor((T - window) / hop)`` frames, without padding; a waveform that is shorter than a window is
    padded with zeros to one. The window is a periodic Hann window, and M holds triangles that are linear in Hz between
    mel frequencies ``2595 log10(1 + f / 700)``. The transform is a matrix product over the frequencies that M reads:
    it needs no Fourier transform of the device or of an export format. The window is symmetric, and two samples at one
    distance from its middle share their cosine and have opposite sines: their sum and difference need half the product.
    It computes in float32, also under autocast.

    Args:
        sample_rate: Hz of the waveforms.
        mels: number of bands.
        window: samples of a frame.
        hop: samples from frame to frame.
        n_fft: samples of the transform, at least those of a window.
        f_min: lower edge of the lowest band in Hz.
        f_max: upper edge of the highest band in Hz, at most half the sample rate; ``None``: this half.
        offset: added to the magnitudes, > 0.

    Raises:
        InputError: an argument outside its range, or bands that are narrower than the transform resolves.
    """

    cosines: Tensor
    sines: Tensor
    bands: Tensor

    def __init__(
        self,
        sample_rate: int = 16000,
        *,
        mels: int = 64,
        window: int = 400,
        hop: int = 160,
        n_fft: int = 512,
        f_min: float = 125.0,
        f_max: float | None = 7500.0,
        offset: float = 0.01,
    ) -> None:
        super().__init__()
        self.sample_rate = validation.whole("front_end.sample_rate", sample_rate, minimum=1)
        self.window = validation.whole("front_end.window", window, minimum=2)
        self.hop = validation.whole("front_end.hop", hop, minimum=1)
        self.mels = validation.whole("front_end.mels", mels, minimum=1)
        self.offset = validation.positive("front_end.offset", offset)
        size = validation.whole("front_end.n_fft", n_fft, minimum=1, maximum=LARGEST)
        if size < window:
            raise InputError(f"front_end.n_fft={n_fft}: must be at least front_end.window={window}")
        highest = sample_rate / 2 if f_max is None else f_max
        if not 0 <= f_min < highest <= sample_rate / 2:
            raise InputError(
                f"front_end.f_min={f_min}, front_end.f_max={f_max}: need 0 <= f_min < f_max <= {sample_rate / 2:g}, "
                "half the sample rate; front_end.f_max=null takes this half"
            )
        with torch.device("cpu"):  # read below, also where a network is built without memory
            bands = mel_bands(sample_rate, size, mels, f_min, highest)
            cosines, sines = half_transforms(window, size)
        if empty := [i for i, band in enumerate(bands) if not band.any()]:
            raise InputError(
                f"front_end.mels={mels}: band {empty[0]} of {mels} holds no frequency of a transform of {size} "
                "samples; set fewer bands or a larger front_end.n_fft"
            )
        read = bands.any(0)
        missing = -int(read.sum()) % ALIGNED  # columns of zeros
        for name, matrix in (("cosines", cosines), ("sines", sines), ("bands", bands)):
            columns = nn.functional.pad(matrix[:, read].float(), (0, missing))
            self.register_buffer(name, columns.T.contiguous() if name == "bands" else columns, persistent=False)

    def frames(self, samples: int) -> int:
        """Return the number of frames of a waveform."""
        return 1 + max(0, samples - self.window) // self.hop

    def extra_repr(self) -> str:
        """Return the settings, for ``repr``."""
        return f"{self.sample_rate} Hz, {self.mels} bands, window {self.window}, hop {self.hop}"

    def forward(self, waveforms: Tensor) -> Tensor:
        with torch.autocast(waveforms.device.type, enabled=False):
            waveforms = waveforms.to(self.bands.dtype)
            if waveforms.shape[1] < self.window:
                waveforms = nn.functional.pad(waveforms, (0, self.window - waveforms.shape[1]))
            frames = waveforms.unfold(1, self.window, self.hop)  # the window is 0 at their first sample
            half = self.window // 2
            before, after = frames[..., 1 : half + 1], frames[..., -half:].flip(-1)
            real, imaginary = (before + after) @ self.cosines, (before - after) @ self.sines
            magnitude = (real * real).addcmul_(imaginary, imaginary).sqrt_()
            return (magnitude @ self.bands).add_(self.offset).log()[:, None]


def half_transforms(window: int, size: int) -> tuple[Tensor, Tensor]:
    """Return cosines and sines ``(window // 2, size // 2 + 1)`` float64 of a Hann window's transform about its middle.

    Rows are the samples before the middle, without the first, whose weight is 0. The last row is the middle itself, if
    the window has a sample there; it is counted twice.
    """
    time = torch.arange(1, window // 2 + 1, dtype=torch.float64)
    frequency = torch.arange(size // 2 + 1, dtype=torch.float64)
    angle = 2 * math.pi * (time[:, None] - window / 2) * frequency / size
    weight = torch.hann_window(window, dtype=torch.float64)[1 : window // 2 + 1]
    weight = torch.where(time == window / 2, weight / 2, weight)[:, None]
    return weight * angle.cos(), weight * angle.sin()


def mel_bands(sample_rate: int, size: int, mels: int, f_min: float, f_max: float) -> Tensor:
    """Return the weights ``(mels, size // 2 + 1)`` float64 of triangular bands of height 1."""

    def mel(hertz: float) -> float:
        return 2595 * math.log10(1 + hertz / 700)

    corners = 700 * (10 ** (torch.linspace(mel(f_min), mel(f_max), mels + 2, dtype=torch.float64) / 2595) - 1)
    hertz = torch.arange(size // 2 + 1, dtype=torch.float64) * sample_rate / size
    low, middle, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    return torch.minimum((hertz - low) / (middle - low), (high - hertz) / (high - middle)).clamp(min=0)
