from dataclasses import dataclass
from typing import Any

import pytest

from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.plain import Count, checked


@dataclass(frozen=True)
class Inner:
    name: str


@dataclass(frozen=True)
class Outer:
    count: Count
    size: int | tuple[int, int]
    shares: dict[str, float]
    names: tuple[str, ...] = ()
    inner: Inner | None = None
    on: bool = False


GOOD: dict[str, Any] = {"count": 3, "size": [4, 5], "shares": {"a": 1}, "names": ["x"], "inner": {"name": "y"}}


def test_checked_builds_a_dataclass_from_plain_containers() -> None:
    outer = checked(Outer, {**GOOD, "unknown": object()})
    assert outer == Outer(3, (4, 5), {"a": 1.0}, ("x",), Inner("y"))
    assert isinstance(outer.shares["a"], float)
    assert checked(Outer, {"count": None, **GOOD}, {"count": 7}).count == 3
    assert checked(Outer, {**GOOD, "count": None}, {"count": 7}).count == 7


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("count", -1, "count must be in [0, 9223372036854775808), not -1"),
        ("count", True, "count must be a whole number, not True"),
        ("count", 2**70, "count must be in"),
        ("size", "8", "size must be a whole number or a list, not '8'"),
        ("size", [1, 2, 3], "size must be a whole number or a list, not a list"),
        ("shares", {"a": "\ud800"}, r"shares.a must be a number, not '\ud800'"),
        ("shares", {1: 0.5}, "shares's key must be text, not 1"),
        ("names", "abc", "names must be a list, not 'abc'"),
        ("names", ["a", None], "names[1] must be text, not None"),
        ("inner", {}, "inner: name is missing"),
        ("inner", [], "inner: must be a mapping, not a list"),
        ("on", 1, "on must be true or false, not 1"),
    ],
)
def test_checked_names_the_wrong_field(name: str, value: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        checked(Outer, {**GOOD, name: value})
    assert words in str(caught.value)
