"""Output to the terminal, from one process of a run. Text is printed as it is: nothing in it is markup."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.text import Text

from stkd_lightning.utilities.rank import process_rank
from stkd_lightning.utilities.text import printable


class PlainConsole(Console):
    """A console that prints text and the cells of tables as they are, with their control characters shown."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text to print; Rich calls this for every string."""
        return super().render_str(printable(text), **options)


console = PlainConsole(soft_wrap=True, markup=False, emoji=False, highlight=False)


@contextmanager
def silent() -> Iterator[None]:
    """Print nothing within the context, where what is printed was said before."""
    quiet, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = quiet


def print_rank_zero(line: object) -> None:
    """Print a line or a table on the first rank only."""
    if process_rank() == 0:
        console.print(line)


def warn(text: str) -> None:
    """Print a warning on the first rank only.

    Args:
        text: one line, without the word "warning".
    """
    if process_rank() == 0:
        console.print(f"warning: {text}", style="yellow")
