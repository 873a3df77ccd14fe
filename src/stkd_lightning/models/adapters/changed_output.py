"""Change the output of another library's network, whose module paths and parameter names stay."""

from functools import cache
from typing import Any, TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class ChangedOutput(nn.Module):
    """Base class of changes: a subclass calls the network by ``super().forward``."""

    def __reduce__(self) -> tuple[Any, ...]:
        # A class that is made in a run has no name by which pickle could find it.
        return _empty, type(self).__bases__, self.__dict__


def with_output(network: Network, change: type[ChangedOutput]) -> Network:
    """Change the output of a network in place, and return the network; its class becomes a subclass of the same name.

    Args:
        network: an instance of a class of another library.
        change: direct subclass of ``ChangedOutput``.
    """
    bases: tuple[Any, Any] = change, type(network)
    network.__class__ = _subclass(*bases)
    return network


@cache
def _subclass(change: Any, kind: Any) -> Any:
    return type(kind.__name__, (change, kind), {})


def _empty(*bases: Any) -> nn.Module:
    subclass = _subclass(*bases)
    return subclass.__new__(subclass)
