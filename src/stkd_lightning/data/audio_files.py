"""Read one sound file as mono 16-bit samples; training and prediction read sound only here."""

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stkd_lightning.utilities.errors import InputError, reason

ENDINGS = (".wav", ".flac", ".ogg", ".mp3")
LEVELS = 2**15
LONGEST = 30 * 60  # seconds of a clip; longer recordings are cut into clips first
RATES = 1_000, 384_000  # Hz
LEAST_BITS = 8  # of a sample
PLAIN = {1, 3, 0xFFFE}  # kinds of wav files with plain samples: whole numbers, floating point, and extensible
OGG, OGG_PAGE, LAST_PAGE = b"OggS", 65_307, 4  # first bytes of a page, its largest size, and the flag of the last
MISSING = "reading sound files needs soundfile and soxr: pip install 'stkd-lightning[audio]'"


class UnreadableAudioError(InputError):
    """A sound file that cannot be read.

    Args:
        path: of the file.
        words: the cause.
    """

    def __init__(self, path: Path, words: str) -> None:
        super().__init__(f"clip {path}: cannot be read ({words}); replace or delete it")
        self.path, self.words = path, words


def read_audio(path: Path, sample_rate: int) -> NDArray[np.int16]:
    """Read a sound file: the mean of its channels, resampled, clipped to [-1, 1), ``(t,)``.

    Args:
        path: wav, flac, ogg or mp3.
        sample_rate: Hz of the result.

    Raises:
        UnreadableAudioError: no sound file; one that is truncated, empty or too long, whose samples are not all finite,
            or whose rate is outside of ``RATES``.
        InputError: soundfile or soxr is not installed.
    """
    try:
        import soundfile
        import soxr
    except ImportError as error:
        raise InputError(MISSING) from error
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would block
            raise ValueError("not a regular file")
        _check_whole(path)
        with soundfile.SoundFile(path) as file:
            _check(file.frames, file.samplerate)
            samples, rate = file.read(dtype="float32", always_2d=True), file.samplerate
            if len(samples) < file.frames:
                raise ValueError(f"truncated: {len(samples):,} of {file.frames:,} samples")
        if not len(samples):
            raise ValueError("no sample")
        if not np.isfinite(samples).all():
            raise ValueError("some samples are not finite")
        mono = samples.mean(1)
        if rate != sample_rate:
            mono = soxr.resample(mono, rate, sample_rate)
        if not len(mono):
            raise ValueError(f"shorter than a sample at {sample_rate} Hz")
    except Exception as error:  # the library raises many types for a damaged file
        words = getattr(error, "strerror", None) or getattr(error, "error_string", None) or reason(error)
        raise UnreadableAudioError(path, str(words).rstrip(".")) from error
    return levels_of(mono)


def levels_of(waveform: NDArray[np.floating[Any]]) -> NDArray[np.int16]:
    """Return a waveform in [-1, 1) in levels of 16 bits; larger values are clipped."""
    return np.clip(np.rint(waveform * LEVELS), -LEVELS, LEVELS - 1).astype(np.int16)


def _check(samples: int, rate: int) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise ValueError(f"{rate} samples a second; {RATES[0]} to {RATES[1]} are read")
    if samples > LONGEST * rate:
        raise ValueError(
            f"{samples / rate / 60:.0f} minutes long; at most {LONGEST // 60} are read, so cut it into clips"
        )


def _check_whole(path: Path) -> None:
    """Refuse a wav or ogg file that ends before its samples do, or has too few bits a sample.

    The library would read it.

    Raises:
        ValueError: says how much is missing, or the number of bits.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(OGG)) == OGG:
            file.seek(max(0, size - OGG_PAGE))
            tail = file.read()
            last = tail[tail.rfind(OGG) :]  # the page's sixth byte holds its flags
            if len(last) < 6 or not last[5] & LAST_PAGE:
                raise ValueError("truncated: its last page is missing")
            return
        file.seek(0)
        for name, length, start in _chunks(file):
            if name == b"fmt " and (bits := _bits(file.read(16))) < LEAST_BITS:
                raise ValueError(f"{bits} bits a sample; {LEAST_BITS} or more are read")
            # Of a stream whose length was not known when it began, the length is the largest number or 0.
            if name == b"data" and 0 < length < 0xFFFFFF00 and start + length > size:
                raise ValueError(f"truncated: {size - start:,} of {length:,} bytes of samples")


def _bits(form: bytes) -> int:
    """Return the bits of a sample of a ``fmt`` chunk of plain samples; of compressed ones, which have none, enough."""
    plain = int.from_bytes(form[:2], "little") in PLAIN
    return int.from_bytes(form[14:16], "little") if plain else LEAST_BITS


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, length and place of the chunks of a RIFF file; nothing for other files."""
    if file.read(4) != b"RIFF":
        return
    file.seek(12)
    while len(head := file.read(8)) == 8:
        length, start = int.from_bytes(head[4:], "little"), file.tell()
        yield head[:4], length, start
        file.seek(start + length + length % 2)
