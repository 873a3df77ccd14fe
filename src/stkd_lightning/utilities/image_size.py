"""Sizes of images: one number for square images, height and width for others."""

from collections.abc import Sequence

Size = int | tuple[int, int]  # in pixels


def sides(size: int | Sequence[int]) -> tuple[int, int]:
    """Return height and width of a size in pixels; lists come from files."""
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width


def size_of(height: int, width: int) -> Size:
    """Return the size of images: their side if they are square, else height and width."""
    return height if height == width else (height, width)
