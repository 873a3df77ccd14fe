"""Read the logits, or a feature, from an output of any type."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from stkd_lightning.utilities.errors import InputError


def logits_of(output: Any) -> Tensor:
    """Return the logits from a network's output.

    Args:
        output: a tensor; an object or a mapping with ``logits``, as in transformers; or a tuple whose first element
            they are.

    Raises:
        InputError: any other output; names its type.
    """
    if isinstance(output, Tensor):
        return output
    logits = _named(output, "logits")
    if logits is None and isinstance(output, tuple | list) and output:
        logits = output[0]
    if not isinstance(logits, Tensor):
        held = f" of {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
        raise InputError(f"its output is a {type(output).__name__}{held}, without logits")
    return logits


def feature_of(output: Any) -> Any:
    """Return the feature from a module's output: itself, the first of a tuple, or its ``last_hidden_state``."""
    if isinstance(output, Tensor):
        return output
    if (state := _named(output, "last_hidden_state")) is not None:
        return state
    return output[0] if isinstance(output, tuple | list) and output else output


def _named(output: Any, name: str) -> Any:
    """Return the attribute or the value of a name; ``None`` if there is none."""
    found = getattr(output, name, None)
    return output.get(name) if found is None and isinstance(output, Mapping) else found
