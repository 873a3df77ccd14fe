"""Sizes of inputs: one number for square images, height and width for others; the samples of clips."""

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


def shape_of(channels: int, size: int | Sequence[int]) -> tuple[int, ...]:
    """Return the shape of an input: ``(C, H, W)`` of an image, ``(T,)`` of a clip, which has no channels."""
    if channels:
        return channels, *sides(size)
    (length,) = (size,) if isinstance(size, int) else size
    return (length,)
