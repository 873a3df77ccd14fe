"""Colours of classes in masks and figures. This file imports no torch."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

LEVELS = range(0, 256, 17)  # of each channel of a candidate
DARKEST, LIGHTEST, STRONGEST = 35, 88, 90  # lightness and chroma of a candidate; ignored pixels are black, pages white
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
DAYLIGHT = np.array([0.9505, 1.0, 1.089])  # white of a screen, D65


@cache
def class_colours(count: int) -> NDArray[np.uint8]:
    """Return distinct colours, none of them near black or white; the first ones do not depend on the number.

    Each colour is the candidate that is farthest from the nearest colour before it, by its distance in CIELAB, as in
    Glasbey et al. 2007 (doi:10.1002/col.20327).

    Args:
        count: number of classes, from 1 to 255.

    Returns:
        ``(count, 3)``, red, green and blue.
    """
    colours = np.array([(r, g, b) for r in LEVELS for g in LEVELS for b in LEVELS])
    places = _lab(colours)
    chroma = np.hypot(places[:, 1], places[:, 2])
    kept = (places[:, 0] >= DARKEST) & (places[:, 0] <= LIGHTEST) & (chroma <= STRONGEST)
    colours, places = colours[kept], places[kept]
    chosen = [int(places[:, 2].argmin())]  # the bluest, a colour that colour-blind people see
    distance = np.full(len(places), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, np.linalg.norm(places - places[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return colours[chosen].astype(np.uint8)


def _lab(colours: NDArray[np.int64]) -> NDArray[np.float64]:
    """Convert sRGB of 8 bits ``(N, 3)`` to CIELAB."""
    share = colours / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = linear @ TO_XYZ.T / DAYLIGHT
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = root.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
