"""List the cache, and delete entries by kind, age or size."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig
from rich import box
from rich.table import Table

from stkd_lightning.commands.cache_entries import Entry, find_entries
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.paths import cache_root

DAY = 24 * 60 * 60


def cache(config: DictConfig) -> None:
    """Run a composed ``cache.yaml``.

    Args:
        config: the checked configuration.

    Raises:
        InputError: the cache cannot be written.
    """
    root, now = cache_root(config.cache_dir), time.time()
    entries = [entry for entry in find_entries(root) if _is_chosen(entry, config, now)]
    if not entries:
        print_rank_zero(f"{root}: no entries")
        return
    print_rank_zero(_table(root, entries, now))
    print_rank_zero(f"{root}: {_total(entries)}")
    if config.prune:
        _prune(root, entries)


def _is_chosen(entry: Entry, config: DictConfig, now: float) -> bool:
    kinds: Any = config.kind
    kinds = list(kinds) if isinstance(kinds, ListConfig) else [kinds]
    return (
        (kinds == [None] or entry.kind in kinds)
        and (config.older_than_days is None or now - entry.used > config.older_than_days * DAY)
        and (config.larger_than_gib is None or entry.size > config.larger_than_gib * 2**30)
    )


def _prune(root: Path, entries: Sequence[Entry]) -> None:
    deleted = []
    try:
        for entry in entries:
            if entry.delete():
                deleted.append(entry)
            else:
                print_rank_zero(f"{entry.path.relative_to(root)}: in use, so it is kept")
    except OSError as error:
        raise InputError(f"cache {root}: cannot be written ({error.strerror})") from None
    print_rank_zero(f"deleted: {_total(deleted)}")


def _table(root: Path, entries: Sequence[Entry], now: float) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("entry", "content"):
        table.add_column(heading, overflow="fold")
    for heading in ("size", "last used"):
        table.add_column(heading, justify="right", no_wrap=True)
    for entry in entries:
        used = "in use" if entry.in_use else _age(now - entry.used)
        table.add_row(str(entry.path.relative_to(root)), entry.about, _size(entry.size), used)
    return table


def _total(entries: Sequence[Entry]) -> str:
    return f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}, {_size(sum(e.size for e in entries))}"


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} GiB"


def _age(seconds: float) -> str:
    for limit, length, unit in ((3600, 60, "minutes"), (2 * DAY, 3600, "hours")):
        if seconds < limit:
            return f"{max(seconds, 0) / length:.0f} {unit} ago"
    return f"{seconds / DAY:.0f} days ago"
