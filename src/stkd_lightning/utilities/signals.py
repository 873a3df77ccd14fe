"""Ending on request: a signal is noted while a run can save itself, and ends it at once at any other time."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from signal import Signals
from types import FrameType

# SLURM announces the end of a job's time by the signal that its script asks for: #SBATCH --signal=SIGUSR1@90
SIGNALS = (signal.SIGTERM, signal.SIGINT, *([signal.SIGUSR1] if "SLURM_JOB_ID" in os.environ else []))


class Interrupted(BaseException):
    """A run that ends because it was told to.

    Args:
        received: the signal.
        saved: what was saved before, for people; empty: nothing new.
    """

    def __init__(self, received: Signals, saved: str = "") -> None:
        super().__init__(received, saved)  # of which another process makes it again
        self.received, self.saved = received, saved

    def __str__(self) -> str:
        return self.received.name

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as a shell has it."""
        return 128 + self.received

    @property
    def requeues(self) -> bool:
        """Whether SLURM's time is over, and the job should go on in another."""
        return self.received == getattr(signal, "SIGUSR1", None)


class _State:
    received: Signals | None = None
    held = 0
    child: "subprocess.Popen[bytes] | None" = None


def requested() -> Signals | None:
    """Return the signal that asked this process to end, if one did and was not answered."""
    return _State.received


def listen() -> None:
    """Have the signals that ask a process to end handled here, and forget those of before."""
    _State.received = None
    listen_again()


def listen_again() -> None:
    """Have the signals handled here, after a library has taken them over; only the main thread can."""
    if threading.current_thread() is threading.main_thread():
        for one in SIGNALS:
            signal.signal(one, _note)


def _note(number: int, frame: FrameType | None) -> None:
    again, _State.received = _State.received is not None, Signals(number)
    if _State.child is not None:
        _State.child.send_signal(number)
    elif not _State.held or (again and number == signal.SIGINT):  # a second Ctrl-C does not wait
        raise Interrupted(_State.received)


def hold() -> None:
    """Only note signals from now on: what comes asks ``requested`` where it can end well."""
    _State.held += 1


def release() -> None:
    """Undo one ``hold``; a signal that was noted and not answered stays."""
    _State.held -= 1


def answer(received: Signals, saved: str) -> Interrupted:
    """Return what ends a run that was asked to; the signal counts as answered."""
    _State.received = None
    return Interrupted(received, saved)


@contextmanager
def blocked() -> Iterator[None]:
    """Have the signals wait, in this thread and in processes forked meanwhile, where the system can do that."""
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
    """Only note signals: what runs inside asks ``requested`` where it can end well, or is ended when it is done."""
    hold()
    try:
        yield
    finally:
        release()
    if _State.received is not None and not _State.held:
        raise Interrupted(_State.received)


def run_child(command: list[str]) -> int:
    """Run a command and return its exit code; a signal that asks this process to end reaches it once.

    Raises:
        Interrupted: when it has ended after one.
    """
    with deferred():
        _State.child = subprocess.Popen(command, start_new_session=True)
        if _State.received is not None:
            _State.child.send_signal(_State.received)
        try:
            return _State.child.wait()
        finally:
            _State.child = None


def requeue() -> bool:
    """Have SLURM start this job again, and return whether it will."""
    job = os.environ.get("SLURM_JOB_ID", "")
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    try:
        return subprocess.run(["scontrol", "requeue", job], check=False).returncode == 0
    except OSError:
        return False
