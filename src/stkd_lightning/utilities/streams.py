"""Standard output and error that end no run: their reader may go away, and a terminal may lack a character."""

import errno
import io
import os
import sys
from typing import Any

READER_GONE = (errno.EPIPE, errno.EIO)  # a closed pipe, a closed terminal


class _Stream(io.FileIO):
    """A file descriptor that discards what is written once its reader is gone."""

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content)
        except OSError as error:
            if error.errno not in READER_GONE:
                raise
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return super().write(content)


def keep_output() -> None:
    """Let this process go on without output where its reader goes away, and show characters that a terminal lacks.

    A second call, and streams that a caller has replaced, change nothing.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller: `>&-`
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _kept(stream))


def _kept(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    if os.name != "posix":  # a console of Windows is no plain descriptor
        stream.reconfigure(errors="backslashreplace")
        return stream
    stream.flush()
    raw = _Stream(stream.fileno(), "w", closefd=False)
    unbuffered, lines = stream.write_through, stream.line_buffering
    buffer = raw if unbuffered else io.BufferedWriter(raw)
    return io.TextIOWrapper(buffer, stream.encoding, "backslashreplace", line_buffering=lines, write_through=unbuffered)
