"""Teacher logits on disk: computed once for each virtual sample, and read by later runs with the same samples."""

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

FLUSH = 32  # batches between two writes; each write waits for the device


def check_replay(loss: nn.Module) -> None:
    """Refuse replay for a loss that reads features of the teacher.

    Raises:
        InputError: names the loss and the features.
    """
    paths = getattr(loss, "features", Features()).teacher
    if paths or getattr(loss, "reads_features", False):
        named = f" ({', '.join(paths)})" if paths else ""
        *_, part = [loss, *(m for m in loss.modules() if getattr(m, "reads_features", False))]
        raise InputError(
            f"teacher.replay=true: {type(part).__name__} reads features of the teacher{named}, but replay stores only "
            "logits; set teacher.replay=false"
        )


def open_pass(folder: Path, name: str, batches: int) -> "StoredPass | RecordedPass":
    """Open the teacher's logits of one pass over the data: stored if they are complete, else to be recorded.

    All ranks must call this. A pass that another run is recording is waited for.

    Args:
        folder: one for everything that determines the logits: teacher, precision, data, augmentation, mixing, seed
            and number of ranks. It is created.
        name: of the pass, for example ``epoch-3``.
        batches: number of batches of each rank.

    Raises:
        Interrupted: the run was asked to end while it waited.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{name}-of-{batches}"
    rank, ranks = world()
    files = [_Files(folder / f"{name}.{r}") for r in range(ranks)]
    lock = None
    if rank == 0 and not all(file.complete for file in files):
        lock = _acquire(folder / f"{name}.lock")
    stored = of_first_rank(all(file.complete for file in files))
    if stored and lock is not None:
        lock.release()
    return StoredPass(files[rank]) if stored else RecordedPass(files[rank], batches, lock)


def _acquire(path: Path) -> FileLock:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print_rank_zero(f"replay: another run is recording {path.stem}; waiting for it")
        while not lock.is_locked:
            if received := signals.requested():
                raise signals.answer(received, "") from None
            with suppress(Timeout):
                lock.acquire(timeout=1)
    return lock


class _Files:
    """The two files of one rank's pass: the logits, and a JSON description, which is written last."""

    def __init__(self, data: Path) -> None:
        self.data, self.description = data, data.with_name(f"{data.name}.json")

    @property
    def complete(self) -> bool:
        if not (self.data.is_file() and self.description.is_file()):
            return False
        facts = json.loads(self.description.read_text())
        return self.data.stat().st_size == np.prod(facts["shape"]) * getattr(torch, facts["dtype"]).itemsize


class StoredPass:
    """A complete pass of one rank, memory-mapped; the teacher does not run."""

    def __init__(self, files: _Files) -> None:
        self.path = files.data
        facts = json.loads(files.description.read_text())
        self.dtype, self.batch = getattr(torch, facts["dtype"]), facts["batch"]
        self.bits = np.memmap(files.data, np.dtype(f"u{self.dtype.itemsize}"), "r", shape=tuple(facts["shape"]))

    def logits(self, position: int, images: Tensor, compute: Callable[[], Tensor]) -> Tensor:
        """Return the stored logits ``(B, K, ...)`` of a batch, on its device, bit for bit as they were computed.

        Args:
            position: index of the batch in its pass.
            images: ``(B, ...)``.
            compute: not called.

        Raises:
            RuntimeError: the pass was recorded with other batches.
        """
        start = position * self.batch
        bits = np.array(self.bits[start : start + len(images)])
        if len(bits) != len(images):
            raise RuntimeError(f"replay {self.path}: recorded with other batches; delete {self.path.parent}")
        return torch.from_numpy(bits).view(self.dtype).to(images.device, non_blocking=True)

    def end(self) -> None:
        """Do nothing: a stored pass is complete."""

    abandon = end


class RecordedPass:
    """A pass that one rank is recording; it is stored when every batch was seen, in order from the first."""

    def __init__(self, files: _Files, batches: int, lock: FileLock | None) -> None:
        self.files, self.batches, self.lock = files, batches, lock
        self.partial = files.data.with_name(f".{files.data.name}.partial")
        self.file: BinaryIO | None = None
        self.pending: list[Tensor] = []
        self.batch, self.shape, self.dtype = 0, torch.Size(), torch.float32  # of the first batch
        self.positions = self.rows = 0
        self.failed = False

    def logits(self, position: int, images: Tensor, compute: Callable[[], Tensor]) -> Tensor:
        """Run the teacher on a batch and record its logits ``(B, K, ...)``.

        Args:
            position: index of the batch in its pass.
            images: not used.
            compute: runs the teacher.
        """
        logits = compute()
        if self.positions == 0:
            self.batch, self.shape, self.dtype = len(logits), logits.shape[1:], logits.dtype
        self.failed = self.failed or not self._continues(position, logits)
        if not self.failed:
            self.positions, self.rows = self.positions + 1, self.rows + len(logits)
            self.pending.append(logits)
            if len(self.pending) == FLUSH:
                self._flush()
        return logits

    def _continues(self, position: int, logits: Tensor) -> bool:
        """Return whether a batch is the next of the pass, after full batches of logits of the same shape."""
        in_order = position == self.positions and position * self.batch == self.rows
        return in_order and logits.shape[1:] == self.shape and logits.dtype == self.dtype

    def _flush(self) -> None:
        """Write the pending logits; a write error ends the recording, not the run."""
        try:
            if self.file is None:
                self.file = self.partial.open("wb")
            self.file.write(torch.cat(self.pending).cpu().contiguous().view(torch.uint8).numpy().data)
        except OSError as error:
            warnings.warn(f"replay: {self.partial} cannot be written ({error}); the teacher runs instead", stacklevel=2)
            self.failed = True
        self.pending = []

    def end(self) -> None:
        """Store the pass if it is complete; all ranks must call this."""
        complete = self.positions == self.batches
        if not self.failed and complete and self.pending:
            self._flush()
        if not self.failed and complete and self.file is not None:
            self.file.flush()
            os.fsync(self.file.fileno())
            os.replace(self.partial, self.files.data)
            name = str(self.dtype).removeprefix("torch.")
            facts = {"shape": [self.rows, *self.shape], "dtype": name, "batch": self.batch}
            write_json(self.files.description, facts)
        barrier()
        self.abandon()

    def abandon(self) -> None:
        """Delete the unfinished recording, and let other runs record the pass."""
        if self.file is not None:
            self.file.close()
        self.partial.unlink(missing_ok=True)
        if self.lock is not None:
            self.lock.release()
