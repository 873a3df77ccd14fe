"""Prepare a data set once as memory-mapped arrays."""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from stkd_lightning.data.arrays import Arrays, RawData
from stkd_lightning.data.integrity import is_intact, is_recorded
from stkd_lightning.data.open_arrays import open_arrays
from stkd_lightning.data.writer import write
from stkd_lightning.utilities.cache import locked, mark_used, set_aside
from stkd_lightning.utilities.choices import OnError
from stkd_lightning.utilities.errors import InputError, reason

CHANGED = "changed after it was written"


def prepare(folder: Path, read: Callable[[], RawData], *, on_error: OnError | None = None) -> Arrays:
    """Open a prepared data set; write it first if it does not exist, is damaged or was changed.

    The folder appears complete or not at all; parallel jobs wait for the job that writes it.

    Args:
        folder: of the prepared data set.
        read: returns the raw data; called only if the data set is written.
        on_error: ``"skip"``: images that cannot be read are left out; otherwise they are refused, and ``"refuse"`` says
            that the data set has this option.

    Raises:
        InputError: a split without images, images that cannot be read, or a cache that cannot be written but has to be.
        OSError: the data cannot be written, for example because the disk is full.
    """
    arrays = _opened(folder)
    if arrays is None or not is_recorded(arrays):
        with ExitStack() as lock:
            try:
                lock.enter_context(locked(folder))
            except InputError:  # a cache that others filled
                if arrays is None:
                    raise
                if not is_intact(arrays):
                    raise InputError(f"prepared data {folder}: {CHANGED}; set another cache_dir") from None
                return arrays
            if (arrays := _intact(folder)) is None:
                write(folder, read(), on_error)
                arrays = open_arrays(folder)
    mark_used(folder)
    return arrays


def _opened(folder: Path) -> Arrays | None:
    """Return a prepared data set; ``None`` if there is none or it is damaged."""
    with suppress(InputError):
        return open_arrays(folder)
    return None


def _intact(folder: Path) -> Arrays | None:
    """Return a prepared data set; ``None`` if there is none. One that is damaged or was changed is set aside."""
    if not folder.exists():
        return None
    cause = CHANGED
    try:
        arrays = open_arrays(folder)
        if is_recorded(arrays) or is_intact(arrays):
            return arrays
    except InputError as error:
        cause = reason(error.__cause__ or error)
    set_aside(folder, cause)
    return None
