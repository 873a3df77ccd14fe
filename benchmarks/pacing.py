"""Trainings that live side by side and take turns, so that what disturbs one disturbs all."""

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
    """Ends a training from within."""


class Pacer:
    """Told of every step by a training, it lets the training go on only as far as it is asked to."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.extra: dict[str, float] = {}  # seconds of parts of a step, added up by a training that knows them
        self._wait()

    def _wait(self) -> None:
        self.left = self.connection.recv()
        if not self.left:
            raise FinishedError
        self.extra = {}
        synchronize()
        self.start = time.perf_counter()

    def after_step(self) -> None:
        """Count a step; after the last that was asked for, report and wait."""
        self.left -= 1
        if self.left:
            return
        synchronize()
        seconds = time.perf_counter() - self.start
        self.connection.send({"seconds": seconds, "extra": self.extra, **memory()})
        self._wait()


def memory() -> dict[str, float]:
    """Return peak memory in MiB: of this process, of what its workers hold by themselves, and of the GPU."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    workers = 0.0
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            workers += child.memory_full_info().uss / 2**20
    device = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    return {"memory": own, "workers": workers, "device": device}


class Contestant:
    """A training in a process of its own.

    Args:
        make: module-level function that trains until the pacer stops it.
        arguments: of ``make``, beside the connection that its pacer listens to.
        threads: of torch; by default ``$OMP_NUM_THREADS``, else one for each core.
    """

    def __init__(self, make: Callable[..., None], arguments: dict[str, Any], threads: int | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_run, args=(theirs, make, arguments, threads))
        self.process.start()
        theirs.close()

    def steps(self, count: int) -> dict[str, Any]:
        """Have it train so many steps, and return what it reports of them."""
        self.connection.send(count)
        try:
            return self.connection.recv()
        except EOFError as error:
            raise RuntimeError("a training ended by itself; its message is above") from error

    def stop(self) -> None:
        """End it."""
        if self.process.is_alive():
            self.connection.send(0)
            self.process.join(30)
        self.process.kill()


def _run(connection: Connection, make: Callable[..., None], arguments: dict[str, Any], threads: int | None) -> None:
    torch.set_num_threads(threads or int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))))
    with suppress(FinishedError):
        make(connection=connection, **arguments)
