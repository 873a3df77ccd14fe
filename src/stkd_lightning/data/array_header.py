"""The head of an array file that is written before its length is known."""

from io import BytesIO

import numpy as np


def array_header(shape: tuple[int, ...], kind: str = "|u1") -> bytes:
    """Return the head of an array file; its length does not depend on the number of images or samples.

    Args:
        shape: of the array.
        kind: of its numbers; default uint8.
    """
    file = BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()
