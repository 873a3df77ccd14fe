"""Ranges of numeric options, shared by constructors and by the command line (which checks them before torch loads)."""

from math import isfinite
from numbers import Real
from typing import Any, Literal

from stkd_lightning.errors import InputError


def _number(name: str, value: Any, need: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{name}={value!r}: must be {need}")
    return float(value)


def unit_interval(name: str, value: Any) -> float:
    """Return a number in [0, 1].

    Raises:
        InputError: anything else; names the nearest end of the interval.
    """
    number = _number(name, value, "a number in [0, 1]")
    if not 0 <= number <= 1:
        nearest = 1 if number > 1 else 0
        raise InputError(f"{name}={value}: must be in [0, 1]; the nearest is {nearest}")
    return number


def positive(name: str, value: Any) -> float:
    """Return a finite number above 0.

    Raises:
        InputError: anything else.
    """
    number = _number(name, value, "a number above 0")
    if not 0 < number < float("inf"):
        raise InputError(f"{name}={value}: must be above 0 and finite; 1 is a neutral value")
    return number


def non_negative(name: str, value: Any) -> float:
    """Return a finite number of at least 0.

    Raises:
        InputError: anything else.
    """
    number = _number(name, value, "a number of at least 0")
    if not 0 <= number < float("inf"):
        raise InputError(f"{name}={value}: must be at least 0 and finite; the nearest is 0")
    return number


def whole(name: str, value: Any, *, minimum: int = 0) -> int:
    """Return a whole number of at least ``minimum``.

    Raises:
        InputError: anything else.
    """
    number = _number(name, value, f"a whole number of at least {minimum}")
    if not isfinite(number) or number != int(number) or number < minimum:
        raise InputError(f"{name}={value}: must be a whole number of at least {minimum}; the nearest is {minimum}")
    return int(number)


def optional_non_negative(name: str, value: Any) -> float | None:
    """Return ``None`` or a finite number of at least 0."""
    return None if value is None else non_negative(name, value)


def automatic(name: str, value: Any) -> bool | Literal["auto"]:
    """Return ``True``, ``False`` or ``"auto"``.

    Raises:
        InputError: anything else.
    """
    if value is True or value is False or value == "auto":
        return value
    raise InputError(f"{name}={value}: must be auto, true or false")


def switch(name: str, value: Any) -> bool:
    """Return ``True`` or ``False``.

    Raises:
        InputError: anything else.
    """
    if value is True or value is False:
        return value
    raise InputError(f"{name}={value}: must be true or false")


def optional_whole(name: str, value: Any, *, minimum: int = 0) -> int | None:
    """Return ``None`` or a whole number of at least ``minimum``."""
    return None if value is None else whole(name, value, minimum=minimum)
