"""Read the logits from a network's output."""

from typing import Any

from torch import Tensor


def logits_of(output: Any) -> Tensor:
    """Return the logits from a network's output: a tensor, or, as in transformers, an object with ``logits``."""
    return output if isinstance(output, Tensor) else output.logits
