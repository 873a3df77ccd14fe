"""Read pickles as data: nothing that a pickle names is imported or called.

Only the opcodes of plain values are supported, and of the calls only those in a pickled array. They are not called
either: the array is built from its bytes, after their number was compared with its shape. Python's own unpickler would
also fill the memory for a damaged memo index and overflow the stack for a deeply nested key.
"""

import pickletools
import re
from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np

PLAIN_TYPE = re.compile(r"[uif][1248]|b1")
MOST_OPCODES = 1_000_000  # CIFAR-100 has the most, 200,000
MARK = object()


class _Global(NamedTuple):
    name: str


class _Type:
    """A pickled ``numpy.dtype`` of plain numbers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.order = "="

    def build(self, state: Any) -> None:
        _, order, subarray, names, fields, _, _, flags = state
        if order not in ("<", ">", "|", "=") or (subarray, names, fields) != (None, None, None) or flags != 0:
            raise ValueError("it contains an array of values that are not numbers")
        self.order = order


class _Array:
    """A pickled ``numpy.ndarray``; ``build`` sets ``value``."""

    value: np.ndarray

    def build(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        content = content.encode("latin1") if isinstance(content, str) else content
        if not isinstance(content, bytes) or not isinstance(dtype, _Type):
            raise ValueError("it contains an array without bytes or type")
        kind = np.dtype(dtype.order + dtype.name)
        fits = len(shape) <= 8 and all(type(n) is int and 0 <= n <= len(content) for n in shape)
        if not fits or prod(shape) * kind.itemsize != len(content):
            raise ValueError("it contains an array whose bytes do not fit its shape")
        self.value = np.frombuffer(content, kind).reshape(shape, order="F" if fortran else "C")


def _called(function: Any, arguments: Any) -> Any:
    """Return a value that represents the result of a call."""
    name = function.name if isinstance(function, _Global) else type(function).__name__
    match name.replace("numpy.core.", "numpy._core."), arguments:
        case "numpy._core.multiarray _reconstruct", (_Global("numpy ndarray"), _, _):
            return _Array()
        case "numpy dtype", (str(kind), _, _) if PLAIN_TYPE.fullmatch(kind):
            return _Type(kind)
        case "_codecs encode", (str(text), "latin1"):
            return text.encode("latin1")
    raise ValueError(f"it calls {name.replace(' ', '.')}")


class _Machine:
    """The stack machine of pickles, without imports, calls and other objects."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop(self, count: int) -> list[Any]:
        """Pop ``count`` values from the stack, in the order of their pushes."""
        values = [self.stack.pop() for _ in range(count)][::-1]
        if any(value is MARK for value in values):
            raise ValueError("it pops a value that was not pushed")
        return values

    def pop_to_mark(self) -> list[Any]:
        """Pop all values above the last mark, and the mark."""
        values = []
        while (value := self.stack.pop()) is not MARK:
            values.append(value)
        return values[::-1]

    def append(self, values: list[Any]) -> None:
        """Append values to the list on top."""
        if type(self.stack[-1]) is not list:
            raise ValueError("it appends to a value that is not a list")
        self.stack[-1].extend(values)

    def set(self, items: list[Any]) -> None:
        """Add keys and values to the dictionary on top."""
        if type(self.stack[-1]) is not dict or not all(isinstance(key, str | bytes | int) for key in items[::2]):
            raise ValueError("it contains a dictionary with keys that are not names")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def build(self, state: Any) -> None:
        """Set the content of the array or type on top."""
        if not isinstance(self.stack[-1], _Array | _Type):
            raise ValueError("it builds an object that is not an array")
        self.stack[-1].build(state)

    def call(self) -> None:
        """Replace function and arguments by a value that represents the result of the call."""
        self.stack.append(_called(*self.pop(2)))


PUSHED = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
)
OPCODES: dict[str, Callable[[_Machine, Any], object]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, argument: None),
    **dict.fromkeys(PUSHED, lambda machine, argument: machine.stack.append(argument)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda m, index: m.memo.update({index: m.stack[-1]})),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda m, index: m.stack.append(m.memo[index])),
    "MEMOIZE": lambda m, _: m.memo.update({len(m.memo): m.stack[-1]}),
    "NONE": lambda m, _: m.stack.append(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "MARK": lambda m, _: m.stack.append(MARK),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "LIST": lambda m, _: m.stack.append(m.pop_to_mark()),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_to_mark())),
    "TUPLE1": lambda m, _: m.stack.append(tuple(m.pop(1))),
    "TUPLE2": lambda m, _: m.stack.append(tuple(m.pop(2))),
    "TUPLE3": lambda m, _: m.stack.append(tuple(m.pop(3))),
    "APPEND": lambda m, _: m.append(m.pop(1)),
    "APPENDS": lambda m, _: m.append(m.pop_to_mark()),
    "SETITEM": lambda m, _: m.set(m.pop(2)),
    "SETITEMS": lambda m, _: m.set(m.pop_to_mark()),
    "GLOBAL": lambda m, name: m.stack.append(_Global(name)),
    "STACK_GLOBAL": lambda m, _: m.stack.append(_Global(" ".join(m.pop(2)))),
    "REDUCE": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(m.pop(1)[0]),
}


def loads(content: bytes) -> dict[str | bytes | int, Any]:
    """Return a pickled dictionary of plain values and arrays of numbers, without arrays inside lists.

    Raises:
        ValueError: other content.
        Exception: of many types, for damaged content.
    """
    machine = _Machine()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if opcode.name not in OPCODES or count > MOST_OPCODES:
            raise ValueError(f"it uses the opcode {opcode.name}, or more than {MOST_OPCODES:,}")
        OPCODES[opcode.name](machine, argument)
    (value,) = machine.stack
    if type(value) is not dict:
        raise ValueError(f"it contains a {type(value).__name__}, not a dictionary")
    return {key: item.value if isinstance(item, _Array) else item for key, item in value.items()}
