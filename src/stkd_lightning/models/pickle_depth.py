"""The depth of a pickle's values, found without building them.

Python hashes a key of tuples inside each other on the C stack: a megabyte of them ends the process.
"""

import pickletools
from typing import IO, cast

from stkd_lightning.utilities.errors import InputError

DEPTH = 500  # containers inside each other
STEPS = 2_000_000  # opcodes; ten thousand tensors need less
FILLING = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}  # opcodes that change their first operand


def check_depth(file: IO[bytes], place: str) -> None:
    """Refuse a pickle whose values are nested too deeply.

    Args:
        file: at the start of the pickle; is read to its end.
        place: name of the file for messages.

    Raises:
        InputError: nested deeper than ``DEPTH``, or longer than ``STEPS``.
        ValueError, IndexError, KeyError: not a pickle.
    """
    stack: list[int] = []
    marks: list[int] = []
    memo: dict[int, int] = {}
    for step, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if step > STEPS:
            raise InputError(f"{place}: holds more than {STEPS:,} values beside its tensors; save the weights alone")
        name, before = opcode.name, opcode.stack_before
        if name == "MARK":
            marks.append(len(stack))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else cast(int, argument)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[cast(int, argument)])
        else:
            fixed = before.index(pickletools.markobject) if pickletools.markobject in before else len(before)
            start = (marks.pop() if pickletools.markobject in before else len(stack)) - fixed
            taken = stack[start:] if start >= 0 else []
            del stack[max(0, start) :]
            depth = 1 + max(taken, default=-1)
            if name in FILLING:
                depth = max(taken[0], 1 + max(taken[1:], default=-1))
            if depth > DEPTH:
                raise InputError(f"{place}: holds values nested deeper than {DEPTH} levels")
            stack += [depth] * len(opcode.stack_after)
