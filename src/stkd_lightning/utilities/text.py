"""Text of others in our output. This file imports no torch."""

import re

# Control characters, line and paragraph separators, direction marks, and the halves of bytes that are not UTF-8.
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Return text with its control characters shown: a terminal or a page gets ``\x1b`` as four visible characters.

    Args:
        text: one line; a line break is shown as ``\n``.
    """
    return _INVISIBLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
