"""Build dataclasses from plain containers of a file, and check each field by its type hint."""

import dataclasses
import types
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from stkd_lightning.utilities.errors import InputError

T = TypeVar("T")
WORDS: dict[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false",
                         list: "a list", tuple: "a list"}  # fmt: skip
Count = Annotated[int, range(2**63)]  # a whole number of at least 0


def checked(cls: type[T], content: Any, lacking: Mapping[str, Any] = {}) -> T:
    """Build a dataclass from a file's content; names that are not its fields are left out.

    A hint is a class, a union, ``tuple``, ``list`` or ``dict`` with the hints of their items, ``Annotated[int,
    range(...)]``, or another dataclass, which its ``from_plain`` reads if it has one.

    Args:
        cls: the dataclass.
        content: values by the names of the fields.
        lacking: values of fields that files of old versions do not have.

    Raises:
        InputError: names the field that is missing or has another type.
    """
    if not isinstance(content, Mapping):
        raise InputError(f"must be a mapping, not {_brief(content)}")
    hints = get_type_hints(cls, include_extras=True)
    values = dict(lacking)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        value = content.get(field.name)
        if field.name in content and not (value is None and field.name in lacking):
            values[field.name] = _converted(hints[field.name], value, field.name)
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if field.name not in values and required:
            raise InputError(f"{field.name} is missing")
    return cls(**values)


def _converted(hint: Any, value: Any, name: str) -> Any:
    """Return a value in the form that a hint says."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Annotated:
        kind, allowed = arguments
        if _converted(kind, value, name) not in allowed:
            raise InputError(f"{name} must be in [{allowed.start}, {allowed.stop}), not {_brief(value)}")
        return value
    if origin in (Union, types.UnionType):
        return _of_union(arguments, hint, value, name)
    if origin is dict and isinstance(value, Mapping):
        keys, values = arguments
        named = ((k, v, f"{name}.{k}"[:200]) for k, v in value.items())
        return {_converted(keys, k, f"{name}'s key"): _converted(values, v, below) for k, v, below in named}
    if origin in (tuple, list) and isinstance(value, list | tuple):
        repeated = origin is list or arguments[-1] is Ellipsis
        hints = [arguments[0]] * len(value) if repeated else list(arguments)
        if len(hints) == len(value):
            return origin(_converted(h, v, f"{name}[{i}]") for i, (h, v) in enumerate(zip(hints, value, strict=True)))
    if dataclasses.is_dataclass(hint):
        return _nested(hint, value, name)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise InputError(f"{name} must be {_words(hint)}, not {_brief(value)}")


def _nested(hint: Any, value: Any, name: str) -> Any:
    try:
        return hint.from_plain(value) if hasattr(hint, "from_plain") else checked(hint, value)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _of_union(hints: tuple[Any, ...], whole: Any, value: Any, name: str) -> Any:
    """Return a value in the first form that takes it; of one form and ``None``, the form's own error is raised."""
    others = [hint for hint in hints if hint is not types.NoneType]
    if value is None and len(others) < len(hints):
        return None
    if len(others) == 1:
        return _converted(others[0], value, name)
    for hint in others:
        with suppress(InputError):
            return _converted(hint, value, name)
    raise InputError(f"{name} must be {_words(whole)}, not {_brief(value)}")


def _words(hint: Any) -> str:
    """Return a hint in words, such as ``a whole number or a list``."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(part) for part in arguments if part is not types.NoneType))
    kind = arguments[0] if origin is Annotated else origin or hint
    return WORDS.get(kind, "a mapping")


def _brief(value: Any) -> str:
    text = ascii(value) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}..."
