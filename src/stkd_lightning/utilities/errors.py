"""Exceptions that are shown to a user as one line, and suggestions for a mistake."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """A mistake in an option, a file or a combination of them; its text is one line that names the correction."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.splitlines()))  # a file name may have line breaks


class UndefinedError(InputError):
    """A combination for which a method is not defined; a sweep over combinations skips it."""


class RunError(RuntimeError):
    """A fault during a correct run, such as a full disk; its text is one line that says how to continue.

    Args:
        text: the line.
        passes: whether the same run may succeed when it is started again.
    """

    def __init__(self, text: str, *, passes: bool = True) -> None:
        super().__init__(text)
        self.passes = passes


def undefined(error: BaseException | None) -> UndefinedError | None:
    """Return the ``UndefinedError`` that an exception is, or that caused it; else ``None``."""
    while error is not None and not isinstance(error, UndefinedError):
        error = error.__cause__
    return error


def reason(error: BaseException) -> str:
    """Return the first line of an exception's message, or its type if it has no message."""
    message = str(error).strip()
    return message.splitlines()[0][:300] if message else type(error).__name__


def suggestion(name: str, known: Iterable[str]) -> str:
    """Name the nearest known names, then all of them.

    Args:
        name: the unknown name.
        known: all known names.

    Returns:
        ``"did you mean a or b? all: a, b, c"``; only the list if no name is near.
    """
    names = sorted(set(known))
    by_folded = {n.lower(): n for n in names}
    near = [by_folded[n] for n in get_close_matches(name.lower(), by_folded, n=3, cutoff=0.6)]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{hint}all: {', '.join(names)}"


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Return the error for an unknown name, for example ``student 'resnet8x5'``."""
    return InputError(f"{kind} {name!r}: unknown; {suggestion(name, known)}")
