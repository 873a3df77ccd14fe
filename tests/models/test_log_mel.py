import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from stkd_lightning.models.audio.log_mel import LogMel, mel_bands
from stkd_lightning.utilities.errors import InputError
from tests.losses.properties import waves

DIGITS = {"sample_rate": 8000, "window": 200, "hop": 80, "n_fft": 512, "f_min": 125.0, "f_max": 3800.0}


@pytest.mark.parametrize("options", [{}, {**DIGITS, "mels": 20}, {**DIGITS, "mels": 64}])
def test_equals_the_fourier_transform(options: dict[str, float]) -> None:
    front_end = LogMel(**options)
    waveforms = waves(2, 4000, dtype=torch.float32) / 2
    window, size = front_end.window, int(options.get("n_fft", 512))
    frames = waveforms.double().unfold(1, window, front_end.hop) * torch.hann_window(window, dtype=torch.float64)
    magnitude = torch.fft.rfft(frames, size).abs()
    bands = mel_bands(
        front_end.sample_rate, size, front_end.mels, front_end_edge(options, 0), front_end_edge(options, 1)
    )
    expected = torch.log(magnitude @ bands.T + front_end.offset)
    spectrogram = front_end(waveforms)
    assert spectrogram.shape == (2, 1, front_end.frames(4000), front_end.mels)
    torch.testing.assert_close(spectrogram[:, 0].double(), expected, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(front_end(waveforms), spectrogram)


def front_end_edge(options: dict[str, float], i: int) -> float:
    return options.get(("f_min", "f_max")[i], (125.0, 7500.0)[i])


def test_bands_are_triangles_between_mel_frequencies() -> None:
    """Each band is 1 nowhere above, and zero outside its corners; neighbours add up to 1 between their peaks."""
    bands = mel_bands(16000, 4096, 8, 100.0, 8000.0)
    assert float(bands.max()) <= 1
    peaks = bands.argmax(1)
    inside = bands[:, peaks[0] : peaks[-1] + 1].sum(0)
    torch.testing.assert_close(inside, torch.ones_like(inside))
    mel = [2595 * math.log10(1 + float(p) * 16000 / 4096 / 700) for p in peaks]
    steps = [b - a for a, b in pairwise(mel)]
    assert max(steps) / min(steps) < 1.05


def test_tone_is_in_its_band() -> None:
    front_end = LogMel(8000, mels=20, window=200, hop=80, f_max=3800)
    time = torch.arange(4000) / 8000
    low, high = (front_end(torch.sin(2 * math.pi * f * time)[None])[0, 0].mean(0).argmax() for f in (300.0, 3000.0))
    assert low < 5
    assert high > 14


def test_short_waveform_is_padded_to_a_window() -> None:
    front_end = LogMel(8000, mels=20, window=200, hop=80, f_max=3800)
    assert front_end(torch.zeros(1, 50)).shape == (1, 1, 1, 20)
    torch.testing.assert_close(front_end(torch.zeros(1, 50)), torch.full((1, 1, 1, 20), math.log(0.01)))


def test_state_has_no_constants() -> None:
    assert not LogMel().state_dict()
    assert isinstance(LogMel(), nn.Module)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_fft": 300}, "front_end.n_fft=300: must be at least front_end.window=400"),
        ({"f_max": 9000.0}, "need 0 <= f_min < f_max <= 8000, half the sample rate"),
        ({"f_min": 8000.0, "f_max": None}, "need 0 <= f_min < f_max"),
        (
            {"mels": 256},
            "holds no frequency of a transform of 512 samples; set fewer bands or a larger front_end.n_fft",
        ),
        ({"mels": 0}, "front_end.mels=0"),
        ({"offset": 0.0}, "front_end.offset=0"),
    ],
)
def test_settings_that_do_not_fit_are_named(options: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        LogMel(**options)
