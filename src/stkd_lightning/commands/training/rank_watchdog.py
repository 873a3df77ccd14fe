"""End all ranks within seconds when one dies, with one line that names the dead rank."""

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
from stkd_lightning.utilities.signals import SIGNALS, Interrupted

GRACE = 3.0  # seconds in which a rank may report its error and exit, before it is killed
POLL = 0.2  # seconds between two checks


@contextmanager
def watch_ranks(trainer: L.Trainer) -> Iterator[None]:
    """End this rank when another dies, even if it waits for it; end the ranks that this one started when it fails.

    Raises:
        Interrupted: another rank ended after a signal that this rank did not get, or could not handle in time.
        RunError: another rank died; that rank's message is printed first.
    """
    watch = _Watch(trainer)
    watch.start()
    try:
        yield
    except BaseException as error:
        cause = watch.cause(GRACE) if _is_lost_connection(error) else ""
        watch.end_children()
        if not _is_lost_connection(error):
            raise
        if watch.interrupt is not None:
            raise watch.interrupt from error
        cause = cause or f"another rank ended ({_first_sentence(error)})"
        raise RunError(f"rank {trainer.global_rank}: stopped, because {cause}") from error
    finally:
        watch.finished.set()


def _is_lost_connection(error: BaseException) -> bool:
    """Return true if an exception is caused by a lost connection to another rank."""
    message = str(error).lower()
    gloo = isinstance(error, RuntimeError) and "gloo" in message and ("peer" in message or "connect" in message)
    return isinstance(error, DistError) or gloo


def _first_sentence(error: BaseException) -> str:
    """Return the first sentence of an exception, without its position in the C++ code."""
    return re.sub(r"^\[\S+\] ", "", reason(error)).split(". ")[0]


class _Watch(threading.Thread):
    """Checks that the ranks started by this process, and the process that started this one, are still alive.

    Lightning's observer would kill this process without a message, perhaps before it has printed its own error.
    """

    def __init__(self, trainer: L.Trainer) -> None:
        super().__init__(daemon=True)
        self.finished = threading.Event()
        self.interrupt: Interrupted | None = None  # that ended another rank
        self._trainer = trainer
        # Only for a rank that torchrun or the first rank started; the parent of a command may end before it.
        self._parent = os.getppid() if "LOCAL_RANK" in os.environ else None
        self._dead: str | None = None

    def run(self) -> None:
        while not self.finished.wait(POLL):
            _stop_lightnings_observer()
            if self._find_dead():
                if not self.finished.wait(2 * GRACE):
                    print(self._message(), file=sys.stderr, flush=True)
                    self.end_children(0.0)
                    os._exit(self.interrupt.exit_code if self.interrupt else 1)
                return

    def _message(self) -> str:
        if self.interrupt:
            return f"interrupted by {self.interrupt}; resume=auto resumes the run"
        return f"error: rank {self._trainer.global_rank}: stopped, because {self._dead}"

    def cause(self, seconds: float) -> str:
        """Wait for a dead rank, so that its message is printed first, and return how it ended; else an empty string."""
        deadline = time.monotonic() + seconds
        while not self._find_dead() and self._processes() and time.monotonic() < deadline:
            time.sleep(POLL)
        return self._dead or ""

    def end_children(self, seconds: float = GRACE) -> None:
        """Wait for the ranks that this process started, and kill those that do not end in time."""
        deadline = time.monotonic() + seconds
        while any(p.poll() is None for p in self._processes()) and time.monotonic() < deadline:
            time.sleep(POLL)
        for process in self._processes():
            process.kill()

    def _processes(self) -> "list[Popen[bytes]]":
        return list(getattr(self._trainer.strategy.launcher, "procs", ()))  # filled when training starts

    def _find_dead(self) -> bool:
        """Store the first death that is found, since the others follow from it; return true if there is one."""
        if self._dead is None:
            ranks = enumerate(self._processes(), start=self._trainer.global_rank + 1)
            failed = [(code, rank) for rank, process in ranks if (code := process.poll())]
            if failed:
                code, rank = min(failed)  # a negative code is a signal, the more likely cause
                self._dead = _description(code, rank)
                self.interrupt = next((i for s in SIGNALS if (i := Interrupted(Signals(s))).exit_code == code), None)
            elif self._parent is not None and os.getppid() != self._parent:
                self._dead = "the process that started it ended"
        return self._dead is not None


def _description(code: int, rank: int) -> str:
    if code > 0:
        return f"rank {rank} ended with exit code {code}"
    name = Signals(-code).name
    return f"rank {rank} was ended by {name}" + ("; perhaps out of memory" if name == "SIGKILL" else "")


def _stop_lightnings_observer() -> None:
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            thread._child_processes = []  # type: ignore[attr-defined]  # without processes the observer ends
