"""Teacher logits on disk: computed once for each virtual sample, and read by later runs with the same samples."""

import json
import math
import os
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor, nn

from stkd_lightning.losses.base import Features
from stkd_lightning.utilities import signals
from stkd_lightning.utilities.cache import set_aside
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.distributed import barrier, of_first_rank, world
from stkd_lightning.utilities.errors import InputError, UndefinedError
from stkd_lightning.utilities.files import write_json

FLUSH = 32  # batches between two writes; each write waits for the device
DTYPES = {name: getattr(torch, name) for name in ("bfloat16", "float16", "float32", "float64")}


def check_replay(loss: nn.Module) -> None:
    """Refuse replay for a loss that reads features of the teacher.

    Raises:
        UndefinedError: names the loss and the features.
    """
    paths = getattr(loss, "features", Features()).teacher
    if paths or getattr(loss, "reads_features", False):
        named = f" ({', '.join(paths)})" if paths else ""
        *_, part = [loss, *(m for m in loss.modules() if getattr(m, "reads_features", False))]
        raise UndefinedError(
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
    name = f"{name}-of-{batches}"
    rank, ranks = world()
    files = [_Files(folder / f"{name}.{r}", batches) for r in range(ranks)]
    lock, stored = None, False
    if rank == 0 and not (stored := all(file.complete for file in files)):
        lock = _acquire(folder / f"{name}.lock")
        if not (stored := all(file.complete for file in files)):
            for file in files:
                if not file.complete:
                    file.set_aside()
    stored = of_first_rank(stored)
    if stored and lock is not None:
        lock.release()
    return StoredPass(files[rank]) if stored else RecordedPass(files[rank], batches, lock)


def _acquire(path: Path) -> FileLock:
    """Return the lock of a pass; it is not held in a folder that cannot be written, where nothing is recorded."""
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        print_rank_zero(f"replay: another run is recording {path.stem}; waiting for it")
        while not lock.is_locked:
            if received := signals.requested():
                raise signals.answer(received, "") from None
            with suppress(Timeout):
                lock.acquire(timeout=1)
    except OSError:
        pass
    return lock


class _Files:
    """The two files of one rank's pass: the logits, and a JSON description, which is written last."""

    def __init__(self, data: Path, batches: int) -> None:
        self.data, self.description, self.batches = data, data.with_name(f"{data.name}.json"), batches

    @property
    def complete(self) -> bool:
        """True if the files hold a whole pass."""
        try:
            shape, dtype, batch, checksum = self.facts()
            whole = (self.batches - 1) * batch < shape[0]
            whole = whole and self.data.stat().st_size == math.prod(shape) * dtype.itemsize
            return whole and (checksum is None or checksum == _checksum(self.data))
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return False

    def facts(self) -> tuple[tuple[int, ...], torch.dtype, int, int | None]:
        """Return shape and dtype of the logits, the size of the first batch, and the checksum of the logits' file.

        Raises:
            OSError, ValueError, LookupError, TypeError: there is no description, or it has another form.
        """
        facts = json.loads(self.description.read_bytes())
        shape, batch = tuple(facts["shape"]), facts["batch"]
        if not all(type(size) is int and size > 0 for size in (*shape, batch)):
            raise ValueError("shape and batch must be whole numbers")
        return shape, DTYPES[facts["dtype"]], batch, facts.get("crc32")  # old files have no checksum

    def set_aside(self) -> None:
        """Rename the description of a damaged pass, where the cache can be written."""
        if self.description.exists():
            with suppress(InputError):
                set_aside(self.description, "the stored logits are damaged or of another version")


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum


RESIDENT_DEVICES = ("cuda",)
DEVICE_LIMIT = 2**30  # bytes of a stored pass that are copied to a GPU at once


class StoredPass:
    """A complete pass of one rank, memory-mapped, on a GPU copied there at once; the teacher does not run."""

    def __init__(self, files: _Files) -> None:
        self.path = files.data
        shape, self.dtype, self.batch, _ = files.facts()
        self.bits = np.memmap(files.data, np.dtype(f"u{self.dtype.itemsize}"), "r", shape=shape)
        self.resident: Tensor | None = None

    def logits(self, position: int, images: Tensor, compute: Callable[[], Tensor]) -> Tensor:
        """Return the stored logits ``(B, K, ...)`` of a batch, on its device, bit for bit as they were computed.

        Args:
            position: index of the batch in its pass.
            images: ``(B, ...)``.
            compute: not called.

        Raises:
            RuntimeError: the pass was recorded with other batches.
        """
        rows = slice(position * self.batch, position * self.batch + len(images))
        if self.resident is None and images.device.type in RESIDENT_DEVICES and self.bits.nbytes <= DEVICE_LIMIT:
            self.resident = _tensor(self.bits).view(self.dtype).to(images.device)
        logits = _tensor(self.bits[rows]).view(self.dtype) if self.resident is None else self.resident[rows]
        if len(logits) != len(images):
            raise RuntimeError(f"replay {self.path}: recorded with other batches; delete {self.path.parent}")
        return logits.to(images.device)

    def end(self) -> None:
        """Do nothing: a stored pass is complete."""

    abandon = end


def _tensor(bits: NDArray[np.unsignedinteger[Any]]) -> Tensor:
    return torch.from_numpy(np.array(bits))


class RecordedPass:
    """A pass that one rank is recording; it is stored when every batch was seen, in order from the first."""

    def __init__(self, files: _Files, batches: int, lock: FileLock | None) -> None:
        self.files, self.batches, self.lock = files, batches, lock
        self.partial = files.data.with_name(f".{files.data.name}.partial")
        self.file: BinaryIO | None = None
        self.pending: list[Tensor] = []
        self.batch, self.shape, self.dtype = 0, torch.Size(), torch.float32  # of the first batch
        self.positions = self.rows = self.checksum = 0
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
            content = torch.cat(self.pending).cpu().contiguous().view(torch.uint8).numpy().data
            self.file.write(content)
            self.checksum = zlib.crc32(content, self.checksum)
        except OSError as error:
            self._fail(error)
        self.pending = []

    def _fail(self, error: OSError) -> None:
        warnings.warn(f"replay: {self.partial} cannot be written ({error}); the teacher runs instead", stacklevel=3)
        self.failed = True

    def end(self) -> None:
        """Store the pass if it is complete; all ranks must call this."""
        complete = self.positions == self.batches
        if not self.failed and complete and self.pending:
            self._flush()
        if not self.failed and complete and self.file is not None:
            try:
                self._store(self.file)
            except OSError as error:  # a full disk, or files of another user
                self._fail(error)
        barrier()
        self.abandon()

    def _store(self, file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())
        os.replace(self.partial, self.files.data)
        name = str(self.dtype).removeprefix("torch.")
        facts = {"shape": [self.rows, *self.shape], "dtype": name, "batch": self.batch, "crc32": self.checksum}
        write_json(self.files.description, facts)

    def abandon(self) -> None:
        """Delete the unfinished recording, and let other runs record the pass."""
        if self.file is not None:
            with suppress(OSError):  # a full disk does not take what is buffered
                self.file.close()
            self.partial.unlink(missing_ok=True)
        if self.lock is not None:
            self.lock.release()
