"""Read the official CIFAR pickles; no code in them is run."""

from pathlib import Path
from typing import Any

import numpy as np

from stkd_lightning.data.archives import safe_pickle
from stkd_lightning.utilities.errors import InputError, reason

LARGEST = 1 << 30  # bytes; the largest official file has 0.16 GB
LONGEST_NAME = 200


def read_pickle(path: Path) -> dict[Any, Any]:
    """Read a pickled dictionary of plain values and numpy arrays.

    Args:
        path: a CIFAR file, written by Python 2.

    Raises:
        InputError: a missing or damaged file, or other content.
    """
    try:
        if path.exists() and (not path.is_file() or path.stat().st_size > LARGEST):
            raise ValueError("not a file of at most 1 GiB")
        return safe_pickle.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; delete {path.parent} to download it again") from error
    except Exception as error:  # a damaged pickle raises any type
        raise InputError(
            f"{path}: damaged or refused ({reason(error)}); delete {path.parent} to download it again"
        ) from error


def image_rows(path: Path, content: dict[Any, Any], label_key: str) -> tuple[np.ndarray, list[int]]:
    """Return the images ``(N, 3, 32, 32)`` uint8 and the labels of a CIFAR file.

    Raises:
        InputError: missing images or labels, another shape, or different numbers of both.
    """
    data = content.get("data")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
        raise InputError(
            f"{path}: 'data' is not an (N, 3072) array of bytes; delete {path.parent} to download it again"
        )
    if not len(data):
        raise InputError(f"{path}: 'data' contains no image; delete {path.parent} to download it again")
    return data.reshape(-1, 3, 32, 32), label_list(path, content, label_key, len(data))


def name_list(path: Path, key: str) -> list[str]:
    """Return a list of names from a CIFAR file.

    Raises:
        InputError: missing names, equal names, or values that are not names.
    """
    names = read_pickle(path).get(key)
    named = isinstance(names, list) and all(isinstance(name, str) and len(name) <= LONGEST_NAME for name in names)
    if isinstance(names, list) and named and len(set(names)) == len(names):
        return names
    raise InputError(f"{path}: {key!r} is not a list of different names; delete {path.parent} to download it again")


def label_list(path: Path, content: dict[Any, Any], key: str, count: int) -> list[int]:
    """Return a list of labels from a CIFAR file's content.

    Raises:
        InputError: missing labels, values that are not whole numbers, or another number than ``count``.
    """
    labels = content.get(key)
    if isinstance(labels, list) and len(labels) == count and all(type(v) is int and abs(v) < 1 << 31 for v in labels):
        return labels
    raise InputError(
        f"{path}: {key!r} is not a list of {count} whole numbers; delete {path.parent} to download it again"
    )
