"""Read the curves of a run from its ``metrics.csv``."""

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path

from stkd_lightning.utilities.console import warn
from stkd_lightning.utilities.untrusted import MIB, read_bytes

LARGEST = 1e12  # of a figure; larger ones cannot be drawn
COLUMNS, EPOCHS, EPOCH = 1000, 20_000, 10_000_000  # most columns, most epochs and largest epoch
LIMIT = 64 * MIB  # largest file that is read

Curve = dict[int, float]  # a value for each epoch, counted from 1


@dataclass(frozen=True)
class Curves:
    """The metrics of a run over its epochs, by column.

    Attributes:
        training: columns ``train/...``, the mean of the values in each epoch: the loss and its terms.
        validation: columns ``val/...``, the last value in each epoch.
    """

    training: dict[str, Curve] = field(default_factory=dict)
    validation: dict[str, Curve] = field(default_factory=dict)


def read_curves(path: Path) -> Curves:
    """Read a metrics file; one that is too large has no curves.

    Raises:
        InputError, ValueError, LookupError, csv.Error: the file cannot be read, or has another form.
    """
    if path.is_file() and path.stat().st_size > LIMIT:
        warn(f"{path}: too large for curves ({path.stat().st_size // MIB} MiB)")
        return Curves()
    with io.TextIOWrapper(io.BytesIO(read_bytes(path, LIMIT)), "utf-8", newline="") as text:
        rows = csv.reader(text)
        names = next(rows, [])
        if len(names) > COLUMNS:
            raise ValueError(f"more than {COLUMNS} columns")
        last: dict[str, Curve] = {name: {} for name in names if name.startswith("val/")}
        total: dict[str, Curve] = {name: {} for name in names if name.startswith("train/")}
        count: dict[str, dict[int, int]] = {name: {} for name in total}
        for row in rows:
            for name, cell in zip(names, row, strict=False):
                if not (cell and (name in last or name in total) and abs(value := float(cell)) <= LARGEST):
                    continue  # as NaN is
                epoch = _epoch(row[names.index("epoch")])
                if name in last:
                    last[name][epoch] = value
                else:
                    total[name][epoch] = total[name].get(epoch, 0.0) + value
                    count[name][epoch] = count[name].get(epoch, 0) + 1
            if len(row) > len(names) or any(len(c) > EPOCHS for c in (*last.values(), *total.values())):
                raise ValueError(f"row {rows.line_num} has too many cells, or there are more than {EPOCHS:,} epochs")
    means = {name: {epoch: s / count[name][epoch] for epoch, s in sums.items()} for name, sums in total.items()}
    return Curves({name: curve for name, curve in means.items() if curve}, last)


def _epoch(cell: str) -> int:
    """Return the epoch of a row, counted from 1.

    Raises:
        ValueError: not a whole number in a range that can be drawn.
    """
    if not 0 <= float(cell) <= EPOCH:
        raise ValueError(f"epoch {cell[:20]}")
    return int(float(cell)) + 1
