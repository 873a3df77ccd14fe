"""Read small files that others may have made: regular files only, with a limited size, depth and number of values."""

import json
import os
import stat
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from stkd_lightning.utilities.errors import InputError, reason

MIB = 1 << 20
LIMIT = 8 * MIB  # bytes of a file
DEPTH = 64  # containers inside each other
VALUES = 200_000  # values and keys of a file; 100 characters of a text count as one
SCALAR = 10_000  # characters of a YAML text; YAML reads 1:2:3 as a number to the base 60, in quadratic time
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times as fast, and may be missing


def read_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """Read a regular file; a pipe is never waited for.

    Args:
        path: of the file.
        limit: largest number of bytes.

    Raises:
        InputError: there is no such file, it is larger, or it is a folder, a pipe or a device.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise InputError(f"{path}: is not a regular file")
            with os.fdopen(handle, "rb", closefd=False) as file:
                content = file.read(limit + 1)
        finally:
            os.close(handle)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > limit:
        raise InputError(f"{path}: is larger than {limit // MIB} MiB")
    return content


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: it cannot be read, is damaged, or is nested too deeply.
    """
    try:
        content = json.loads(read_bytes(path))
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({reason(error)})") from error
    return check_plain(content, str(path))


def read_yaml(path: Path) -> Any:
    """Read a YAML file without aliases, with which a small file can stand for any number of values.

    Raises:
        InputError: it cannot be read, is damaged, has aliases, or is nested too deeply.
    """
    try:
        text = read_bytes(path, MIB).decode()
        _check_events(text, path)
        content = yaml.load(text, Loader)
    except InputError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{path}: is not YAML ({reason(error)})") from error
    return check_plain(content, str(path))


def _check_events(text: str, path: Path) -> None:
    """Refuse aliases, depth, and many or long values, before any value is built."""
    depth = values = 0
    for event in yaml.parse(text, Loader):
        starts = isinstance(event, yaml.CollectionStartEvent)
        depth += starts - isinstance(event, yaml.CollectionEndEvent)
        values += starts
        if isinstance(event, yaml.ScalarEvent):
            values += _cost(event.value)
            if len(event.value) > SCALAR:
                raise InputError(f"{path}: holds a text of {len(event.value):,} characters")
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{path}: holds an alias (*{event.anchor})")
        _check_size(depth, values, str(path))


def check_plain(content: Any, place: str) -> Any:
    """Return content that consists of a limited number of plain values; a container counts wherever it is referred to.

    Args:
        content: containers and values.
        place: name of the file for messages.

    Raises:
        InputError: another kind of value, a number beyond 64 bits, too many values, or too deep a nesting.
    """
    level, depth, values = [content], 0, 0
    while level:
        following: list[Any] = []
        for value in level:
            values += _cost(value)
            if isinstance(value, Mapping):
                following += [*value.keys(), *value.values()]
            elif isinstance(value, list | tuple | set):
                following += value
            elif isinstance(value, int) and value.bit_length() > 64:
                raise InputError(f"{place}: holds a number of {value.bit_length()} bits")
            elif not isinstance(value, str | bytes | int | float | date | None):
                raise InputError(f"{place}: holds a {type(value).__name__}, which is not a plain value")
            _check_size(depth, values + len(following), place)
        level, depth = following, depth + 1
    return content


def _cost(value: Any) -> int:
    return 1 + (len(value) // 100 if isinstance(value, str | bytes) else 0)


def _check_size(depth: int, values: int, place: str) -> None:
    if depth > DEPTH:
        raise InputError(f"{place}: is nested deeper than {DEPTH} levels")
    if values > VALUES:
        raise InputError(f"{place}: holds more than {VALUES:,} values")
