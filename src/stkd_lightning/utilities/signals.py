"""Signals that ask a run to end: stored while the run can save a checkpoint, otherwise they end it at once."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from signal import Signals
from types import FrameType

from stkd_lightning.utilities.orphan import STARTER

# SLURM sends this signal before a job's time limit if its script has: #SBATCH --signal=SIGUSR1@90
SIGNALS = (signal.SIGTERM, signal.SIGINT, *([signal.SIGUSR1] if "SLURM_JOB_ID" in os.environ else []))


class Interrupted(BaseException):
    """The end of a run after a signal.

    Args:
        received: the signal.
        saved: message about the saved checkpoint; empty: nothing was saved.
    """

    def __init__(self, received: Signals, saved: str = "") -> None:
        super().__init__(received, saved)  # pickle needs both arguments
        self.received, self.saved = received, saved

    def __str__(self) -> str:
        return self.received.name

    @property
    def exit_code(self) -> int:
        """128 + the number of the signal, as in a shell."""
        return 128 + self.received

    @property
    def requeues(self) -> bool:
        """True if SLURM's time limit is near, and a new job should resume the run."""
        return self.received == getattr(signal, "SIGUSR1", None)


class _State:
    received: Signals | None = None
    held = 0
    child: "subprocess.Popen[bytes] | None" = None


def requested() -> Signals | None:
    """Return the signal that asked this process to end, if it was not answered yet."""
    return _State.received


def listen() -> None:
    """Install the signal handlers, and discard earlier signals."""
    _State.received = None
    listen_again()


def listen_again() -> None:
    """Install the signal handlers again after a library replaced them; works in the main thread only."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, _store)


def _store(number: int, frame: FrameType | None) -> None:
    again, _State.received = _State.received is not None, Signals(number)
    if _State.child is not None:
        _State.child.send_signal(number)
    elif not _State.held or (again and number == signal.SIGINT):  # a second Ctrl-C does not wait
        raise Interrupted(_State.received)


def hold() -> None:
    """Only store signals from now on; the run checks ``requested`` where it can end safely."""
    _State.held += 1


def release() -> None:
    """Undo one ``hold``; a stored signal that was not answered stays."""
    _State.held -= 1


def answer(received: Signals, saved: str) -> Interrupted:
    """Return the exception that ends a run after a signal; the signal is answered."""
    _State.received = None
    return Interrupted(received, saved)


@contextmanager
def blocked() -> Iterator[None]:
    """Block the signals in this thread and in processes that it forks, if the system supports it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def deferred() -> Iterator[None]:
    """Only store signals inside the block; a signal that is not answered in it ends the run after it."""
    hold()
    try:
        yield
    finally:
        release()
    if _State.received is not None and not _State.held:
        raise Interrupted(_State.received)


def run_child(command: list[str], *, cwd: str | None = None, variables: Mapping[str, str] | None = None) -> int:
    """Run a command and return its exit code; a signal to this process is sent on to the command once.

    The command ends with this process if it calls ``orphan.watch_starter``.

    Args:
        command: program and arguments.
        cwd: working directory.
        variables: of the environment, beside those of this process.

    Raises:
        Interrupted: the command ended after a signal.
    """
    with deferred():
        environment = {**os.environ, **(variables or {}), STARTER: str(os.getpid())}
        _State.child = subprocess.Popen(command, start_new_session=True, env=environment, cwd=cwd)
        if _State.received is not None:
            _State.child.send_signal(_State.received)
        try:
            return _State.child.wait()
        finally:
            _State.child = None


def requeue() -> bool:
    """Ask SLURM to start this job again, and return whether it accepted."""
    job = os.environ.get("SLURM_JOB_ID", "")
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    try:
        return subprocess.run(["scontrol", "requeue", job], check=False).returncode == 0
    except OSError:
        return False
