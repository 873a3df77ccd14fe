"""Checks of option values, for constructors and for the command line, which checks before torch is loaded."""

import os
from math import isfinite
from numbers import Real
from typing import Any, Literal

from stkd_lightning.utilities.errors import InputError

LARGEST = 2**53  # larger whole numbers are not exact as floats
LARGEST_SEED = 2**32 - 1  # of NumPy's global generator
WIDEST = 1e18  # its square and the square of its inverse are finite in float32


def _number(name: str, value: Any, need: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{name}={value!r}: must be {need}")
    try:
        return float(value)
    except OverflowError as error:
        raise InputError(f"{name}: must be {need}, not a number of {len(f'{value:x}')} hexadecimal digits") from error


def unit_interval(name: str, value: Any) -> float:
    """Return a number in [0, 1].

    Raises:
        InputError: another value; names the nearest end of the interval.
    """
    number = _number(name, value, "a number in [0, 1]")
    if not 0 <= number <= 1:
        nearest = 1 if number > 1 else 0
        raise InputError(f"{name}={value}: must be in [0, 1]; the nearest is {nearest}")
    return number


def half_interval(name: str, value: Any) -> float:
    """Return a number in [0, 0.5].

    Raises:
        InputError: another value.
    """
    if unit_interval(name, value) > 0.5:
        raise InputError(f"{name}={value}: must be in [0, 0.5]; the nearest is 0.5")
    return float(value)


def share(name: str, value: Any) -> float:
    """Return a number in (0, 1].

    Raises:
        InputError: another value; 0.1 is given as an example where it is too small.
    """
    number = _number(name, value, "a number above 0 and at most 1")
    if not 0 < number <= 1:
        hint = "the nearest is 1" if number > 1 else "0.1 is a tenth"
        raise InputError(f"{name}={value}: must be above 0 and at most 1; {hint}")
    return number


def positive(name: str, value: Any) -> float:
    """Return a finite number above 0.

    Raises:
        InputError: another value.
    """
    number = _number(name, value, "a number above 0")
    if not 0 < number < float("inf"):
        raise InputError(f"{name}={value}: must be above 0 and finite; 1 is a neutral value")
    if not 1 / WIDEST <= number <= WIDEST:
        nearest = WIDEST if number > 1 else 1 / WIDEST
        raise InputError(f"{name}={value}: must be between {1 / WIDEST:g} and {WIDEST:g}; the nearest is {nearest:g}")
    return number


def non_negative(name: str, value: Any) -> float:
    """Return a finite number of at least 0.

    Raises:
        InputError: another value.
    """
    number = _number(name, value, "a number of at least 0")
    if not 0 <= number < float("inf"):
        raise InputError(f"{name}={value}: must be at least 0 and finite; the nearest is 0")
    if number > WIDEST:
        raise InputError(f"{name}={value}: must be at most {WIDEST:g}")
    return number


def whole(name: str, value: Any, *, minimum: int = 0, maximum: int = LARGEST) -> int:
    """Return a whole number between ``minimum`` and ``maximum``.

    Raises:
        InputError: another value.
    """
    number = _number(name, value, f"a whole number of at least {minimum}")
    if not isfinite(number) or number != int(number) or number < minimum:
        raise InputError(f"{name}={value}: must be a whole number of at least {minimum}; the nearest is {minimum}")
    exact = value if isinstance(value, int) else int(number)
    if exact > maximum:
        raise InputError(f"{name}={value}: must be at most {maximum}")
    return exact


def seed(name: str, value: Any) -> int:
    """Return a seed that every generator takes.

    Raises:
        InputError: another value.
    """
    return whole(name, value, maximum=LARGEST_SEED)


def steps(name: str, value: Any) -> int:
    """Return a number of steps, or -1: no limit.

    Raises:
        InputError: another value.
    """
    if whole(name, value, minimum=-1) == 0:
        raise InputError(f"{name}={value}: must be at least 1, or -1: no limit")
    return int(value)


def batches(name: str, value: Any, *, minimum: int = 0) -> int | float | None:
    """Return a limit of batches: a whole number of at least ``minimum``, a share in [0, 1], or ``None``: no limit.

    Raises:
        InputError: another value, or the share 0 where ``minimum`` is above 0.
    """
    if value is None:
        return None
    number = _number(name, value, f"a number of at least {minimum} batches or a share of them")
    if isinstance(value, float) and 0 < number <= 1:
        return value
    return whole(name, value, minimum=minimum)


def interval(name: str, value: Any) -> Any:
    """Return a number of batches or a share of an epoch, above 0; also times as text, which Lightning checks."""
    return batches(name, value, minimum=1) if isinstance(value, int | float) else value


def count(name: str, value: Any) -> Any:
    """Return a number of devices; also their indices, -1 or ``"auto"``, which Lightning checks.

    Raises:
        InputError: a fraction.
    """
    return whole(name, value, minimum=1) if isinstance(value, float) else value


def optional_positive(name: str, value: Any) -> float | None:
    """Return ``None`` or a finite number above 0."""
    return None if value is None else positive(name, value)


def optional_non_negative(name: str, value: Any) -> float | None:
    """Return ``None`` or a finite number of at least 0."""
    return None if value is None else non_negative(name, value)


def automatic(name: str, value: Any) -> bool | Literal["auto"]:
    """Return ``True``, ``False`` or ``"auto"``.

    Raises:
        InputError: another value.
    """
    if value is True or value is False or value == "auto":
        return value
    raise InputError(f"{name}={value}: must be auto, true or false")


def images(name: str, value: Any) -> int | Literal["auto", False]:
    """Return a number of images, ``"auto"`` or ``False``.

    Raises:
        InputError: another value.
    """
    if value is False or value == "auto":
        return value
    is_whole = isinstance(value, float) and value.is_integer()
    if value is not True and (isinstance(value, int) or is_whole) and value > 0:
        return whole(name, value, minimum=1)
    raise InputError(f"{name}={value}: must be auto, false or a number of images; the nearest is auto")


def switch(name: str, value: Any) -> bool:
    """Return ``True`` or ``False``.

    Raises:
        InputError: another value.
    """
    if value is True or value is False:
        return value
    raise InputError(f"{name}={value}: must be true or false")


def path(name: str, value: Any) -> str:
    """Return the name of a file or folder, which need not exist.

    Raises:
        InputError: another value.
    """
    if not isinstance(value, str) or not value:
        raise InputError(
            f"{name}={value!r}: must be the name of a file or folder; a name of digits needs quotes: '\"1\"'"
        )
    try:
        long = max(map(len, os.fsencode(value).split(b"/"))) > 255 or len(value) > 4000
    except UnicodeEncodeError:
        long = True
    if long or "\0" in value:
        raise InputError(f"{name}={value[:100]!r}: too long, or with characters that a file name cannot have")
    return value


def optional_whole(name: str, value: Any, *, minimum: int = 0, maximum: int = LARGEST) -> int | None:
    """Return ``None`` or a whole number between ``minimum`` and ``maximum``."""
    return None if value is None else whole(name, value, minimum=minimum, maximum=maximum)
