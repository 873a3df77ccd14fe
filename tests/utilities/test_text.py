"""Text of others is shown as it is, without its control characters."""

import pytest

from stkd_lightning.utilities.text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("a\nb\tc\x7f\x85", r"a\nb\tc\x7f\x85"),
        ("gpj\u202eexe.\u2066\u2069", r"gpj\u202eexe.\u2066\u2069"),
        ("caf\udce9", r"caf\udce9"),
    ],
)
def test_printable_shows_control_characters(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_printable_keeps_other_text() -> None:
    text = r"[bold]Zoë[/] 猫 🐈 a\nb"
    assert printable(text) == text
