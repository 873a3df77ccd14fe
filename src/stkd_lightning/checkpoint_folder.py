"""The files that a run's checkpoints are, and which of them it can go on from."""

import os
from pathlib import Path

from stkd_lightning.ranks import process_rank
from stkd_lightning.reporting.console import say
from stkd_lightning.sealed import intact

LAST, BEFORE, BEST = "last.ckpt", "before_last.ckpt", "best.ckpt"


def keep_before(folder: Path) -> None:
    """Keep the last checkpoint under another name while the next is written in its place."""
    last, before = folder / LAST, folder / BEFORE
    if last.exists():
        aside = folder / f".{BEFORE}.{os.getpid()}.partial"
        aside.unlink(missing_ok=True)
        try:
            os.link(last, aside)
        except OSError:  # a file system without links
            os.replace(last, aside)
        os.replace(aside, before)


def newest_whole(folder: Path) -> Path | None:
    """Return the newest checkpoint that is what was written; set damaged ones aside, and remove half-written files.

    Args:
        folder: of a run's checkpoints.
    """
    first = process_rank() == 0
    if first:
        for partial in (*folder.glob(".*.partial"), *folder.parent.glob(".*.partial")):
            partial.unlink(missing_ok=True)
    for path in (folder / LAST, folder / BEFORE):
        try:
            whole = intact(path)
        except OSError:  # not there
            continue
        if whole:
            return path
        if first:
            aside = path.with_suffix(".damaged")
            path.replace(aside)
            say(f"[yellow]warning: checkpoint {path} is damaged; it is now {aside.name}[/yellow]")
    return None


def forget(folder: Path) -> None:
    """Remove the checkpoints of an earlier run."""
    for name in (LAST, BEFORE, BEST):
        (folder / name).unlink(missing_ok=True)
