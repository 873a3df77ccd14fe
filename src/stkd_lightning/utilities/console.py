"""Output to the terminal, from one process of a run."""

from rich.console import Console

from stkd_lightning.utilities.rank import process_rank

console = Console(soft_wrap=True)


def print_rank_zero(line: object) -> None:
    """Print a line on the first rank only."""
    if process_rank() == 0:
        console.print(line, highlight=False)
