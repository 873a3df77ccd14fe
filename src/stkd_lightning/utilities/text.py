"""Text of others in our output. This file imports no torch."""

import re
from collections.abc import Sequence

# Control characters, line and paragraph separators, direction marks, and the halves of bytes that are not UTF-8.
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# ASCII that starts markup in Markdown; an underscore inside a word does not.
_MARKUP = re.compile(r"[\\`*\[\]<>|&~$#]|:(?=//)|(?<![^\W_])_|_(?![^\W_])")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.ASCII | re.IGNORECASE)


def printable(text: str) -> str:
    r"""Return text with its control characters shown: a terminal or a page gets ``\x1b`` as four visible characters.

    Args:
        text: one line; a line break is shown as ``\n``.
    """
    return _INVISIBLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def markdown(text: str) -> str:
    r"""Return text as Markdown that shows it: ``a*b`` becomes ``a\*b``, and control characters are shown."""
    return _MARKUP.sub(r"\\\g<0>", printable(text))


def markdown_code(text: str) -> str:
    """Return text as code in Markdown, also with backticks in it."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{printable(text)}{pad}{fence}"


def csv_cell(value: object) -> object:
    """Return a cell that a spreadsheet shows as it is: text that it would compute gets an apostrophe before it."""
    text = str(value)
    formula = not isinstance(value, int | float) and text.startswith(_FORMULA) and not _NUMBER.fullmatch(text)
    return f"'{text}" if formula else value


def shortened(text: str, length: int) -> str:
    """Return text of at most a length of 12 or more; of a longer text the middle is left out."""
    return text if len(text) <= length else f"{text[: length - 9]}…{text[-8:]}"


def first_and_more(names: Sequence[object]) -> str:
    """Return the first of some names and how many there are beside it, such as ``a and 3 more``."""
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else str(names[0])
