"""The exceptions that a user is told of in one line, and the words that help to mend a mistake."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """A mistake in an option, a file or a combination of them; its text is one line that a user can act on."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.splitlines()))  # a file's name may have line breaks


class RunError(RuntimeError):
    """A fault of a run that was set up well, such as a full disk; its text is one line, and says how to go on.

    Args:
        text: the line.
        passes: whether the same run may come further when it is started again.
    """

    def __init__(self, text: str, *, passes: bool = True) -> None:
        super().__init__(text)
        self.passes = passes


def reason(error: BaseException) -> str:
    """Return the first line of an exception's words, or its type where it has none."""
    words = str(error).strip()
    return words.splitlines()[0][:300] if words else type(error).__name__


def suggestion(name: str, known: Iterable[str]) -> str:
    """Name the nearest known names, then all of them.

    Args:
        name: what was asked for.
        known: every name that would have been right.

    Returns:
        ``"did you mean a or b? all: a, b, c"``; without a near name only the list.
    """
    names = sorted(set(known))
    by_folded = {n.lower(): n for n in names}
    near = [by_folded[n] for n in get_close_matches(name.lower(), by_folded, n=3, cutoff=0.6)]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{hint}all: {', '.join(names)}"


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Build the error for a name that is none of the known ones, for example ``student 'resnet8x5'``."""
    return InputError(f"{kind} {name!r}: unknown; {suggestion(name, known)}")
