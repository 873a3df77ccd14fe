"""Ranks end together: when one dies, the others end within seconds, and say which it was in one line."""

import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from signal import Signals
from subprocess import Popen

import lightning as L
from torch.distributed import DistError

from stkd_lightning.utilities.errors import RunError, reason

GRACE = 3.0  # seconds in which a rank may end by itself and say why, before it is ended
POLL = 0.2  # seconds


@contextmanager
def watch_ranks(trainer: L.Trainer) -> Iterator[None]:
    """End this rank when another dies, also where it waits for it for ever; when this one fails, end those it started.

    Raises:
        RunError: another rank died; its own words come before.
    """
    watch = _Watch(trainer)
    watch.start()
    try:
        yield
    except BaseException as error:
        culprit = watch.culprit(GRACE) if _lost(error) else ""
        watch.end_children()
        if not _lost(error):
            raise
        culprit = culprit or f"another rank ended ({_shortly(error)})"
        raise RunError(f"rank {trainer.global_rank}: stopped, because {culprit}") from error
    finally:
        watch.left.set()


def _lost(error: BaseException) -> bool:
    """Return whether an exception is how a broken connection to another rank shows."""
    words = str(error).lower()
    gloo = isinstance(error, RuntimeError) and "gloo" in words and ("peer" in words or "connect" in words)
    return isinstance(error, DistError) or gloo


def _shortly(error: BaseException) -> str:
    """Return an exception's first sentence, without the line of C++ that raised it."""
    return re.sub(r"^\[\S+\] ", "", reason(error)).split(". ")[0]


class _Watch(threading.Thread):
    """Looks whether the ranks that this process started, and the process that started this one, are still there.

    Lightning's own observer would kill this process without a word, perhaps before it has said anything itself.
    """

    def __init__(self, trainer: L.Trainer) -> None:
        super().__init__(daemon=True)
        self.left = threading.Event()
        self._trainer = trainer
        # A rank that torchrun or the first rank started; a command's own parent may well end before it.
        self._parent = os.getppid() if "LOCAL_RANK" in os.environ else None
        self._dead: str | None = None

    def run(self) -> None:
        while not self.left.wait(POLL):
            _dismiss_lightnings_observer()
            if self._look():
                if not self.left.wait(2 * GRACE):
                    rank = self._trainer.global_rank
                    print(f"error: rank {rank}: stopped, because {self._dead}", file=sys.stderr, flush=True)
                    self.end_children(0.0)
                    os._exit(1)
                return

    def culprit(self, seconds: float) -> str:
        """Return what ended the rank that is to blame; waits for it, so that its own words come first."""
        until = time.monotonic() + seconds
        while not self._look() and self._processes() and time.monotonic() < until:
            time.sleep(POLL)
        return self._dead or ""

    def end_children(self, seconds: float = GRACE) -> None:
        """Wait for the ranks that this process started, and kill those that do not end."""
        until = time.monotonic() + seconds
        while any(p.poll() is None for p in self._processes()) and time.monotonic() < until:
            time.sleep(POLL)
        for process in self._processes():
            process.kill()

    def _processes(self) -> "list[Popen[bytes]]":
        return list(getattr(self._trainer.strategy.launcher, "procs", ()))  # filled when training begins

    def _look(self) -> bool:
        """Keep what was found dead first: others follow it."""
        if self._dead is None:
            codes = {rank: p.poll() for rank, p in enumerate(self._processes(), start=self._trainer.global_rank + 1)}
            failed = [(code, rank) for rank, code in codes.items() if code]
            if failed:
                self._dead = _words(*min(failed))  # a signal's number is negative; an exit code may be a consequence
            elif self._parent is not None and os.getppid() != self._parent:
                self._dead = "the process that started it ended"
        return self._dead is not None


def _words(code: int, rank: int) -> str:
    if code > 0:
        return f"rank {rank} ended with exit code {code}"
    name = Signals(-code).name
    return f"rank {rank} was ended by {name}" + (", as for want of memory" if name == "SIGKILL" else "")


def _dismiss_lightnings_observer() -> None:
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            thread._child_processes = []  # type: ignore[attr-defined]  # it ends when it finds none
