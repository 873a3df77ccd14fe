"""Damage that disks, downloads and strangers do to files, and what a reader must keep to whatever it is given."""

import faulthandler
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stkd_lightning.utilities.errors import InputError

SECONDS = 10


class Late(BaseException):
    """Something took too long; no reader takes it for damage."""


EDGE = 700  # bytes at both ends of a file, where its structure is rather than its pixels


def _place(random_: random.Random, size: int) -> int:
    """Draw a place, every other time near one of the ends."""
    near = random_.randrange(min(EDGE, size))
    return random_.choice([near, size - 1 - near, random_.randrange(size), random_.randrange(size)])


def _truncated(raw: bytes, random_: random.Random) -> bytes:
    return raw[: _place(random_, len(raw))]


def _flipped(raw: bytes, random_: random.Random) -> bytes:
    damaged = bytearray(raw)
    for _ in range(random_.choice([1, 1, 3, 10])):
        damaged[_place(random_, len(raw))] ^= 1 << random_.randrange(8)
    return bytes(damaged)


def _overwritten(raw: bytes, random_: random.Random) -> bytes:
    at, count = _place(random_, len(raw)), random_.choice([1, 2, 4, 8, 100])
    return (raw[:at] + random_.choice([b"\0", b"\xff", b"\x7f", random_.randbytes(1)]) * count + raw[at + count :])[
        : len(raw)
    ]


def _repeated(raw: bytes, random_: random.Random) -> bytes:
    first, last = sorted(_place(random_, len(raw)) for _ in range(2))
    return raw[:last] + raw[first:]


def _cut_out(raw: bytes, random_: random.Random) -> bytes:
    first, last = sorted(_place(random_, len(raw)) for _ in range(2))
    return raw[:first] + raw[last + 1 :]


DAMAGE = (_truncated, _flipped, _overwritten, _repeated, _cut_out)


def mutations(raw: bytes, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield so many differently damaged copies of a file's content, each with what was done; always the same ones."""
    for seed in range(count):
        damage = DAMAGE[seed % len(DAMAGE)]
        damaged = damage(raw, random.Random(seed))
        if damaged != raw:
            yield f"{damage.__name__.strip('_')} by seed {seed}", damaged


@contextmanager
def watched(what: str) -> Iterator[None]:
    """Fail what takes longer than it may; where it hangs outside Python, end the process with a traceback."""

    def late(*_: Any) -> None:
        raise Late(f"{what}: longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    faulthandler.dump_traceback_later(3 * SECONDS, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read(what: str, reader: Callable[[], Any], longest: int = 1500) -> Any:
    """Return what a reader makes of a file, or its error, which must be one line for the user."""
    with watched(what):
        try:
            return reader()
        except InputError as error:
            words = str(error)
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    assert 20 < len(words) < longest, what
    assert len(words.splitlines()) == 1, what
    return InputError(words)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Return all that is below a folder, with the content of files."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}
