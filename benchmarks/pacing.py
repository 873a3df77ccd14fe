"""Trainings in parallel processes that take turns, so that other load affects all of them equally."""

import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import psutil
import torch
from machine import synchronize


class FinishedError(Exception):
    """Raised inside a training to end it."""


class Pacer:
    """Lets a training run a requested number of steps, and then wait; the training reports every step."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.extra: dict[str, float] = {}  # total seconds of each part of a step, if the training measures them
        self._wait()

    def _wait(self) -> None:
        self.left = self.connection.recv()
        if not self.left:
            raise FinishedError
        self.extra = {}
        synchronize()
        self.start = time.perf_counter()

    def after_step(self) -> None:
        """Count a step; after the last requested step, report and wait."""
        self.left -= 1
        if self.left:
            return
        synchronize()
        seconds = time.perf_counter() - self.start
        self.connection.send({"seconds": seconds, "extra": self.extra, **memory()})
        self._wait()


def memory() -> dict[str, float]:
    """Return peak memory in MiB: of this process, the private memory of its workers, and of the GPU."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    workers = 0.0
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # the worker may have ended
            workers += child.memory_full_info().uss / 2**20
    device = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    return {"memory": own, "workers": workers, "device": device}


class Contestant:
    """A training in a separate process.

    Args:
        make: module-level function that trains until the pacer stops it.
        arguments: arguments of ``make``, without the pacer's connection.
        threads: number of torch threads; by default ``$OMP_NUM_THREADS``, else one per core.
    """

    def __init__(self, make: Callable[..., None], arguments: dict[str, Any], threads: int | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_run, args=(theirs, make, arguments, threads))
        self.process.start()
        theirs.close()

    def steps(self, count: int) -> dict[str, Any]:
        """Train for a number of steps, and return the report of the pacer."""
        self.begin(count)
        return self.report()

    def begin(self, count: int) -> None:
        """Let the training run a number of steps, beside others."""
        self.connection.send(count)

    def ready(self, seconds: float) -> bool:
        """Return true if the report arrives within some seconds."""
        return self.connection.poll(seconds)

    def report(self) -> dict[str, Any]:
        """Wait for the steps that have begun, and return the report of the pacer."""
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError) as error:
            raise RuntimeError("a training ended unexpectedly; its message is above") from error

    def stop(self) -> None:
        """End the training."""
        if self.process.is_alive():
            self.connection.send(0)
            self.process.join(30)
        self.process.kill()


def _run(connection: Connection, make: Callable[..., None], arguments: dict[str, Any], threads: int | None) -> None:
    torch.set_num_threads(threads or int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))))
    with suppress(FinishedError):
        make(connection=connection, **arguments)
