"""End this process when the process that started it has ended, for example by SIGKILL, which nobody can forward."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

STARTER = "STKD_STARTER"  # environment variable: id of the process that this process must not outlive
POLL = 1.0  # seconds between two checks
SAVE = 60.0  # seconds in which a run may finish its batch and save a checkpoint
RANK = 10.0  # seconds in which a rank may report that the first rank has died
EXIT_CODE = 128 + signal.SIGTERM


def watch_starter() -> None:
    """End with the process that started this one, if that is a sweep, a launcher of ranks or the first rank."""
    starter = os.environ.pop(STARTER, None)  # not for the ranks that this process starts
    if starter is not None:
        _watch(int(starter), SAVE, saves=True)
    elif "LOCAL_RANK" in os.environ:
        _watch(os.getppid(), RANK, saves=False)


@contextmanager
def ending_with(parent: int) -> Iterator[None]:
    """End this worker with its parent: in the block as after SIGTERM, and after the block before its next job.

    Args:
        parent: process that made a pool of workers; a process that it did not start itself is left alone.
    """
    if os.getppid() != parent:
        yield
        return
    _watch(parent, SAVE, saves=True)
    try:
        yield
    finally:
        if os.getppid() != parent:
            _leave()


def _watch(parent: int, patience: float, *, saves: bool) -> None:
    """Start the thread that watches a parent, unless it runs already.

    Args:
        parent: id of the process; systems other than POSIX do not tell when it has ended.
        patience: seconds between its end and that of this process.
        saves: send SIGTERM first, so that the run saves a checkpoint.
    """

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        if saves:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(patience)
        _leave()

    name = f"parent-{parent}"
    if all(thread.name != name for thread in threading.enumerate()):
        threading.Thread(target=wait, name=name, daemon=True).start()


def _leave() -> None:
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(EXIT_CODE)
