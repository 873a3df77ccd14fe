"""Names of others on the terminal: as they are, and never read as markup, emoji or control characters."""

import io

import pytest
from rich.table import Table

from stkd_lightning.utilities.console import PlainConsole, console, print_rank_zero, warn

NAMES = ("x[/]y", "a[bold]b", ":cat:", "[link=file:///]c[/link]", "d\\")


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What the console writes."""
    text = io.StringIO()
    monkeypatch.setattr(console, "_file", text)  # `file` would be restored to the stream of this test
    return text


@pytest.mark.parametrize("name", NAMES)
def test_console_prints_text_as_it_is(name: str, screen: io.StringIO) -> None:
    print_rank_zero(name)
    warn(name)
    assert screen.getvalue() == f"{name}\nwarning: {name}\n"


@pytest.mark.parametrize("name", NAMES)
def test_console_prints_tables_as_they_are(name: str, screen: io.StringIO) -> None:
    table = Table(name, title=name)
    table.add_row(name)
    print_rank_zero(table)
    assert screen.getvalue().count(name) == 3


def test_console_shows_control_characters(screen: io.StringIO) -> None:
    table = Table("\x1b]0;title\x07")
    table.add_row("gpj\u202eexe.")
    print_rank_zero(table)
    print_rank_zero("\x1b[2J")
    assert not {"\x1b", "\x07", "\u202e"} & set(screen.getvalue())
    assert all(shown in screen.getvalue() for shown in (r"\x1b]0;title\x07", r"gpj\u202eexe.", r"\x1b[2J"))


def test_warnings_are_yellow() -> None:
    shown = io.StringIO()
    PlainConsole(file=shown, force_terminal=True, color_system="standard").print("warning", style="yellow")
    assert shown.getvalue() == "\x1b[33mwarning\x1b[0m\n"
