"""Read a short text file of a data set."""

from pathlib import Path

from stkd_lightning.utilities.errors import InputError, reason

LONGEST = 1 << 26  # bytes; Tiny-ImageNet's words.txt has 2.6 million


def read_text(path: Path, advice: str) -> str:
    """Return the content of a text file.

    Args:
        path: of the file.
        advice: end of the message about a file that cannot be read.

    Raises:
        InputError: a file that is missing, too long or no text.
    """
    try:
        if path.stat().st_size > LONGEST:
            raise ValueError(f"longer than {LONGEST:,} bytes")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or reason(error)
        raise InputError(f"{path}: cannot be read ({words}); {advice}") from error


def read_lines(path: Path, advice: str) -> list[str]:
    """Return the lines of a text file that are not blank; arguments and errors as in ``read_text``."""
    return [line for line in read_text(path, advice).split("\n") if line.strip()]
