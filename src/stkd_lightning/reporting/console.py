"""Lines for the person at the terminal, from one process of a run."""

import os

from rich.console import Console

console = Console(soft_wrap=True)


def process_rank() -> int:
    """Return this process's rank as its launcher set it, before torch.distributed is up; 0 without a launcher."""
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


def say(line: object) -> None:
    """Print on the first rank only."""
    if process_rank() == 0:
        console.print(line, highlight=False)
