"""Teacher logits, computed once for each virtual sample and read by later runs that see the same ones."""

import json
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from stkd_lightning.losses.base import Features
from stkd_lightning.utilities import signals
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.distributed import barrier, of_first_rank, world
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.files import write_json

FLUSH = 32  # batches between two writes, each of which waits for the device


def check_replay(loss: nn.Module) -> None:
    """Refuse replay for a loss that reads more of the teacher than its logits.

    Raises:
        InputError: names what it reads.
    """
    read = getattr(loss, "features", Features()).teacher
    if read or getattr(loss, "reads_features", False):
        which = f" ({', '.join(read)})" if read else ""
        *_, part = [loss, *(m for m in loss.modules() if getattr(m, "reads_features", False))]
        raise InputError(
            f"teacher.replay=true: {type(part).__name__} reads features of the teacher{which}, and only logits are "
            "kept; set teacher.replay=false"
        )


class Replay:
    """The logits of whole passes over the data (an epoch, an evaluation), in the bits in which they were computed.

    A pass that is not there is recorded while the teacher runs; from then on it is read, memory-mapped, and the teacher
    is not run. It appears when it is whole; a run that comes while another records the same pass waits for it.

    Args:
        folder: stands for all that shapes the logits: teacher, precision, data, augmentation, mixing, seed, and the
            number of ranks.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def open(self, name: str, batches: int) -> "Reading | Recording":
        """Start a pass; all ranks call it.

        Args:
            name: for example ``epoch-3``.
            batches: of each rank.
        """
        name = f"{name}-of-{batches}"
        rank, ranks = world()
        parts = [_Part(self.folder / f"{name}.{r}") for r in range(ranks)]
        lock = None
        if rank == 0 and not all(part.whole for part in parts):
            lock = _locked(self.folder / f"{name}.lock")
        there = of_first_rank(all(part.whole for part in parts))
        if there and lock is not None:
            lock.release()
        return Reading(parts[rank]) if there else Recording(parts[rank], batches, lock)


def _locked(path: Path) -> FileLock:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print_rank_zero(f"replay: {path.stem} is being recorded by another run; waiting for it")
        while not lock.is_locked:
            if received := signals.requested():
                raise signals.answer(received, "") from None
            with suppress(Timeout):
                lock.acquire(timeout=1)
    return lock


class _Part:
    """One rank's logits of a pass: the data, and beside them, written last, what they are."""

    def __init__(self, data: Path) -> None:
        self.data, self.about = data, data.with_name(f"{data.name}.json")

    @property
    def whole(self) -> bool:
        if not (self.data.is_file() and self.about.is_file()):
            return False
        facts = json.loads(self.about.read_text())
        return self.data.stat().st_size == np.prod(facts["shape"]) * getattr(torch, facts["dtype"]).itemsize


class Reading:
    """A pass that is there."""

    def __init__(self, part: _Part) -> None:
        self.path = part.data
        facts = json.loads(part.about.read_text())
        self.dtype, self.batch = getattr(torch, facts["dtype"]), facts["batch"]
        self.bits = np.memmap(part.data, np.dtype(f"u{self.dtype.itemsize}"), "r", shape=tuple(facts["shape"]))

    def logits(self, position: int, images: Tensor, compute: Callable[[], Tensor]) -> Tensor:
        """Return the stored logits ``(B, K)`` of a batch, on its device.

        Args:
            position: of the batch in its pass, from 0.
            images: ``(B, ...)``.
            compute: not called.

        Raises:
            RuntimeError: the stored pass had other batches.
        """
        start = position * self.batch
        bits = np.array(self.bits[start : start + len(images)])
        if len(bits) != len(images):
            raise RuntimeError(f"replay {self.path}: made of other batches; delete {self.path.parent}")
        return torch.from_numpy(bits).view(self.dtype).to(images.device, non_blocking=True)

    def end(self) -> None:
        """Nothing is left to do."""

    abandon = end


class Recording:
    """A pass on its way to disk, this rank's part of it."""

    def __init__(self, part: _Part, batches: int, lock: FileLock | None) -> None:
        self.part, self.batches, self.lock = part, batches, lock
        self.partial = part.data.with_name(f".{part.data.name}.partial")
        self.file: BinaryIO | None = None
        self.pending: list[Tensor] = []
        self.added = self.rows = 0
        self.failed = False

    def logits(self, position: int, images: Tensor, compute: Callable[[], Tensor]) -> Tensor:
        """Run the teacher on a batch, and keep what it says; a pass not seen from its beginning is not kept."""
        logits = compute()
        self.failed = self.failed or position != self.added
        if not self.failed:
            if position == 0:
                self.batch, self.classes, self.dtype = *logits.shape, logits.dtype
            self.added, self.rows = self.added + 1, self.rows + len(logits)
            self.pending.append(logits)
            if len(self.pending) == FLUSH:
                self._flush()
        return logits

    def _flush(self) -> None:
        """Write what is pending; a disk that takes no more ends the recording, not the run."""
        try:
            if self.file is None:
                self.file = self.partial.open("wb")
            self.file.write(torch.cat(self.pending).cpu().contiguous().view(torch.uint8).numpy().data)
        except OSError as error:
            warnings.warn(f"replay: {self.partial} cannot be written ({error}); the teacher runs on", stacklevel=2)
            self.failed = True
        self.pending = []

    def end(self) -> None:
        """Make a recording that is whole appear; all ranks call it."""
        if not self.failed and self.added == self.batches and self.pending:
            self._flush()
        if not self.failed and self.added == self.batches and self.file is not None:
            self.file.flush()
            os.fsync(self.file.fileno())
            os.replace(self.partial, self.part.data)
            name = str(self.dtype).removeprefix("torch.")
            write_json(self.part.about, {"shape": [self.rows, self.classes], "dtype": name, "batch": self.batch})
        barrier()
        self.abandon()

    def abandon(self) -> None:
        """Forget a pass that ended early, and let others record it."""
        if self.file is not None:
            self.file.close()
        self.partial.unlink(missing_ok=True)
        if self.lock is not None:
            self.lock.release()
