"""Checks of options that are lists of numbers; see ``validation`` for single values."""

from collections.abc import Sequence
from typing import Any, Literal

from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.image_size import Size, size_of

LARGEST_SIDE = 2**14  # pixels
LARGEST_SCALE = 16.0


def optional_sides(name: str, value: Any) -> tuple[int, int] | None:
    """Return ``None``, or height and width in pixels.

    Raises:
        InputError: another value.
    """
    if value is None:
        return None
    height, width = (
        validation.whole(name, side, minimum=8, maximum=LARGEST_SIDE)
        for side in _pair(name, value, "height and width in pixels, such as [512,1024]")
    )
    return height, width


def size(name: str, value: Any, *, maximum: int = LARGEST_SIDE) -> Size:
    """Return the side of square images in pixels, or height and width.

    Raises:
        InputError: another value.
    """
    if isinstance(value, int | float | str):
        return validation.whole(name, value, minimum=8, maximum=maximum)
    height, width = (
        validation.whole(name, side, minimum=8, maximum=maximum)
        for side in _pair(name, value, "a side in pixels, such as 224, or height and width, such as [192,256]")
    )
    return size_of(height, width)


def optional_size(name: str, value: Any) -> Size | None:
    """Return ``None`` or a size; see ``size``."""
    return None if value is None else size(name, value)


def scale_range(name: str, value: Any) -> tuple[float, float]:
    """Return the smallest and the largest factor of a scale.

    Raises:
        InputError: another value.
    """
    low, high = (validation.positive(name, factor) for factor in _pair(name, value, "two factors, such as [0.5,2]"))
    if low > high:
        raise InputError(f"{name}=[{low:g},{high:g}]: the first must not be larger; the nearest is [{high:g},{low:g}]")
    if low < 1 / LARGEST_SCALE or high > LARGEST_SCALE:
        raise InputError(f"{name}=[{low:g},{high:g}]: must be between {1 / LARGEST_SCALE:g} and {LARGEST_SCALE:g}")
    return low, high


def optional_shares(name: str, value: Any) -> tuple[float, float] | None:
    """Return ``None``, or the smallest and the largest share, in (0, 1].

    Raises:
        InputError: another value.
    """
    if value is None:
        return None
    low, high = (validation.share(name, share) for share in _pair(name, value, "two shares, such as [0.08,1]"))
    if low > high:
        raise InputError(f"{name}=[{low:g},{high:g}]: the first must not be larger; the nearest is [{high:g},{low:g}]")
    return low, high


def resize_factor(name: str, value: Any) -> float:
    """Return a factor in (0, 1].

    Raises:
        InputError: another value.
    """
    factor = validation.positive(name, value)
    if factor > 1:
        raise InputError(f"{name}={value}: must be at most 1; the nearest is 1")
    return factor


def class_weights(name: str, value: Any) -> tuple[float, ...] | Literal["balanced"] | None:
    """Return ``None``, ``"balanced"`` or a weight for each class.

    Raises:
        InputError: another value, or weights that are all 0.
    """
    if value is None or value == "balanced":
        return value
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise InputError(f"{name}={value}: must be null, balanced or a list of a weight for each class")
    weights = tuple(validation.non_negative(f"{name}[{i}]", weight) for i, weight in enumerate(value))
    if not any(weights):
        raise InputError(f"{name}: a weight must be above 0")
    return weights


def _pair(name: str, value: Any, need: str) -> tuple[Any, Any]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise InputError(f"{name}={value}: must be {need}")
    return value[0], value[1]
