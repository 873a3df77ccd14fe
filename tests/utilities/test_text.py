"""Text of others is shown as it is, without its control characters."""

import pytest
from markdown_it import MarkdownIt

from stkd_lightning.utilities.text import csv_cell, markdown, markdown_code, printable


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


MARKUP = [
    "<img src=x>",
    "[a](http://b)",
    "**a** __b__ *c* _d_ ~~e~~",
    "`a` \\",
    "a | b",
    "&lt;",
    "$x$",
    "http://a.b/c_d",
]


@pytest.mark.parametrize("text", [*MARKUP, "vgg13_MobileNetV2, loss.alpha=0.9"])
def test_markdown_shows_text_as_it_is(text: str) -> None:
    reader = MarkdownIt("gfm-like", {"linkify": False})
    (_, inline, _) = reader.parse(f"it is {markdown(text)}")
    shown = "".join(token.content for token in inline.children or [])
    assert shown == f"it is {text}"
    assert {token.type for token in inline.children or []} <= {"text", "text_special"}


@pytest.mark.parametrize("text", ["a", "a`b", "``", "runs/`x` <b>"])
def test_markdown_code_shows_text_as_it_is(text: str) -> None:
    (_, inline, _) = MarkdownIt().parse(f"it is {markdown_code(text)}")
    assert [token.content for token in inline.children or []] == ["it is ", text]


def test_csv_cells_are_never_formulas() -> None:
    for text in ("=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1", "-", "+-1"):
        assert csv_cell(text) == f"'{text}"
    for value in (-0.5, -3, None, "-0.5", "+1.5e-3", "a=b", "0 1 2", "", "'=1", "kd"):
        assert csv_cell(value) == value
