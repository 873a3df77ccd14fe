"""Sound files as users have them: other rates, channels, depths and containers, and damaged ones."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stkd_lightning.data.audio_files import LEVELS, UnreadableAudioError, read_audio
from stkd_lightning.utilities.errors import InputError
from tests.data.sounds import RATE, tones

CLIP = tones(["low"], 0.5, 0)


@pytest.mark.parametrize(
    ("name", "subtype"),
    [("a.wav", "PCM_16"), ("a.wav", "PCM_24"), ("a.wav", "FLOAT"), ("a.flac", "PCM_16"), ("a.wav", "PCM_U8")],
)
def test_samples_are_those_that_were_written(name: str, subtype: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / name, CLIP, RATE, subtype=subtype)
    samples = read_audio(tmp_path / name, RATE)
    assert samples.dtype == np.int16
    steps = 2**8 if subtype == "PCM_U8" else 1
    assert np.abs(samples - CLIP * LEVELS).max() <= steps


@pytest.mark.parametrize(("name", "format"), [("a.ogg", "OGG"), ("a.mp3", "MP3")])
def test_compressed_sound_is_read(name: str, format: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / name, tones(["low"], 0.5, 0, 16000), 16000, format=format)
    samples = read_audio(tmp_path / name, 16000).astype(float)
    spectrum = np.abs(np.fft.rfft(samples[2000:6000]))
    assert abs(spectrum.argmax() * 16000 / 4000 - 300) < 10


def test_channels_are_averaged(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([CLIP, 0 * CLIP], 1), RATE, subtype="FLOAT")
    assert np.abs(read_audio(tmp_path / "a.wav", RATE) - CLIP * LEVELS / 2).max() <= 1


@pytest.mark.parametrize("rate", [4000, 11025, 44100])
def test_other_rates_are_resampled(rate: int, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tones(["low"], 0.5, 0, rate), rate, subtype="FLOAT")
    samples = read_audio(tmp_path / "a.wav", RATE)
    assert abs(len(samples) - RATE / 2) <= 1
    spectrum = np.abs(np.fft.rfft(samples.astype(float)))
    assert abs(spectrum.argmax() * RATE / len(samples) - 300) < 5


def test_loud_floating_point_is_clipped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([2.0, -2.0, 0.5], np.float32), RATE, subtype="FLOAT")
    assert read_audio(tmp_path / "a.wav", RATE).tolist() == [LEVELS - 1, -LEVELS, LEVELS // 2]


def one_bit() -> bytes:
    """Return a wav file whose header says 1 bit a sample."""
    form = struct.pack("<HHIIHH", 1, 1, RATE, RATE // 8, 1, 1)
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", 100) + bytes(100)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


@pytest.mark.parametrize(("name", "format"), [("a.ogg", "OGG"), ("a.mp3", "MP3"), ("a.flac", "FLAC")])
def test_truncated_compressed_sound_is_named(name: str, format: str, tmp_path: Path) -> None:
    path = tmp_path / name
    soundfile.write(path, tones(["low"], 5.0, 0, 16000), 16000, format=format)
    assert abs(len(read_audio(path, 16000)) - 80_000) < 2_000
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableAudioError, match=rf"clip {path}: cannot be read \("):
        read_audio(path, 16000)


def written(clip: np.ndarray, rate: int = RATE, subtype: str = "FLOAT") -> bytes:
    import io

    file = io.BytesIO()
    soundfile.write(file, clip, rate, subtype=subtype, format="WAV")
    return file.getvalue()


DAMAGED = {
    "truncated": (written(CLIP)[:-5000], r"truncated: .* of 16,000 bytes of samples"),
    "zero length": (written(CLIP[:0]), "no sample"),
    "empty file": (b"", ""),
    "text": (b"hello", ""),
    "not finite": (written(np.array([0.1, np.nan, 0.2], np.float32)), "some samples are not finite"),
    "one bit": (one_bit(), "1 bits a sample; 8 or more are read"),
    "slow": (written(CLIP, rate=100), "100 samples a second; 1000 to 384000 are read"),
}


@pytest.mark.parametrize("name", list(DAMAGED))
def test_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    content, words = DAMAGED[name]
    path = tmp_path / "clip.wav"
    path.write_bytes(content)
    with pytest.raises(UnreadableAudioError, match=rf"clip {path}: cannot be read \(.*{words}.*\); replace"):
        read_audio(path, RATE)


def test_ten_hours_are_refused_before_they_are_read(tmp_path: Path) -> None:
    """A sparse file takes no space on the disk."""
    path = tmp_path / "clip.wav"
    size = 10 * 3600 * RATE * 2
    form = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    head = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", size)
    with path.open("wb") as file:
        file.write(b"RIFF" + struct.pack("<I", 4 + len(head) + size) + b"WAVE" + head)
        file.truncate(file.tell() + size)
    with pytest.raises(UnreadableAudioError, match="600 minutes long; at most 30 are read, so cut it into clips"):
        read_audio(path, RATE)


def test_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    with pytest.raises(InputError, match=r"needs soundfile and soxr: pip install 'stkd-lightning\[audio\]'"):
        read_audio(tmp_path / "a.wav", RATE)
