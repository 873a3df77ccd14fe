"""Reading the official CIFAR pickles without running what a hostile one would run."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from stkd_lightning.errors import InputError

# What a pickled array is made of, under the module names of old and new numpy.
ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("_codecs", "encode"),
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_pickle(path: Path) -> dict[str, Any]:
    """Read a pickled dictionary of plain values and numpy arrays.

    Args:
        path: one of CIFAR's files, written by Python 2.

    Raises:
        InputError: missing, damaged, or holding anything else.
    """
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="latin1").load()
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; delete {path.parent} to have it downloaded again") from error
    except Exception as error:  # a damaged pickle raises any type
        raise InputError(f"{path}: damaged or refused ({error}); delete {path.parent} to get it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a dictionary")
    return content


def image_rows(path: Path, content: dict[str, Any], label_key: str) -> tuple[np.ndarray, list[int]]:
    """Return a CIFAR file's images ``(N, 3, 32, 32)`` uint8 and their labels.

    Raises:
        InputError: images or labels missing, of another shape, or of different number.
    """
    data = content.get("data")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
        raise InputError(f"{path}: 'data' is not an (N, 3072) array of bytes")
    return data.reshape(-1, 3, 32, 32), label_list(path, content, label_key, len(data))


def name_list(path: Path, key: str) -> list[str]:
    """Return one kind of names of a CIFAR file of names.

    Raises:
        InputError: they are missing or no names.
    """
    names = read_pickle(path).get(key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: {key!r} is not a list of names; delete {path.parent} to get it again")
    return names


def label_list(path: Path, content: dict[str, Any], key: str, count: int) -> list[int]:
    """Return one kind of a CIFAR file's labels.

    Raises:
        InputError: they are missing, no whole numbers, or not as many as there are images.
    """
    labels = content.get(key)
    if not isinstance(labels, list) or len(labels) != count or not all(isinstance(v, int) for v in labels):
        raise InputError(f"{path}: {key!r} is not a list of {count} whole numbers")
    return labels
