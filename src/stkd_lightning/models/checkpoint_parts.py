"""The parts of a checkpoint that may be a network's weights: its mappings of tensors, and their keys below a prefix."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

StateDict = dict[str, Tensor]
DEPTH = 6  # largest number of words in a prefix of keys


@dataclass(frozen=True)
class Part:
    """Tensors of a checkpoint.

    Attributes:
        place: name of the mapping in the file and prefix of its keys, with dots; empty for the keys of the file itself.
        state: the tensors, without this prefix.
    """

    place: str
    state: StateDict

    def is_below(self, place: str) -> bool:
        """Return whether the part is at a place or below it."""
        return self.place == place or self.place.startswith(f"{place}.")

    def distance(self, wanted: StateDict) -> tuple[int, int]:
        """Return a value that is small for the part that is most likely meant for a network."""
        shared = sum(key in wanted for key in self.state)
        return -shared, len(self.state) if shared else 0


def parts_of(content: Mapping[Any, Any]) -> list[Part]:
    """Return the parts of a checkpoint, without ``_orig_mod.`` in their keys."""
    inner = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Mapping)}
    found: list[Part] = []
    for name, mapping in {"": content, **inner}.items():
        states: dict[str, StateDict] = defaultdict(dict)
        for key, value in mapping.items():
            if isinstance(key, str) and isinstance(value, Tensor):
                words = key.replace("_orig_mod.", "").split(".")
                for depth in range(min(len(words), DEPTH + 1)):
                    states[".".join(words[:depth])][".".join(words[depth:])] = value
        found += [Part(".".join(filter(None, (name, prefix))), state) for prefix, state in states.items()]
    return found


def mismatch(wanted: StateDict, state: StateDict) -> tuple[list[str], list[str], list[str]]:
    """Return the keys that a state_dict lacks, that it has in addition, and whose shape is another.

    Old files may lack ``num_batches_tracked``.
    """
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in wanted]
    reshaped = [k for k in wanted if k in state and wanted[k].shape != state[k].shape]
    return missing, unexpected, reshaped


def fitting(parts: Iterable[Part], wanted: StateDict) -> list[Part]:
    """Return the parts with exactly the keys and shapes of a network."""
    least = sum(not key.endswith("num_batches_tracked") for key in wanted)
    return [p for p in parts if least <= len(p.state) <= len(wanted) and not any(mismatch(wanted, p.state))]


def distinct(parts: list[Part]) -> list[Part]:
    """Return parts that differ; of weights and their average, as timm saves it, the average.

    Args:
        parts: of equal keys and shapes.
    """
    names = {part.place.partition(".")[0] for part in parts}
    found: list[Part] = []
    for part in parts:
        averaged = f"{part.place.partition('.')[0]}_ema" in names
        if not averaged and not any(_equal(part.state, other.state) for other in found):
            found.append(part)
    return found


def _equal(state: StateDict, other: StateDict) -> bool:
    return state.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in state.items())
