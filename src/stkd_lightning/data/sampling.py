"""Which samples make a batch: shuffled ones, or equally many of some groups.

Peng et al. 2019, Sec. 3, "Strategy for Mini-batch Sampler" (arXiv:1904.01802): groups are classes or superclasses.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

# From an epoch's generator to positions (batches, batch_size) among the N training samples, N // batch_size batches.
Order = Callable[[np.random.Generator], NDArray[np.int64]]


def shuffled(random: np.random.Generator, *, samples: int, batch_size: int) -> NDArray[np.int64]:
    """Return an order that shows each of N samples once, but for those of an incomplete last batch.

    Args:
        random: of the epoch.
        samples: N.
        batch_size: at most N.

    Returns:
        ``(N // batch_size, batch_size)`` positions in [0, N).
    """
    batches = samples // batch_size
    return random.permutation(samples)[: batches * batch_size].reshape(batches, batch_size)


def uniform(
    random: np.random.Generator, *, groups: NDArray[np.int64], batch_size: int, number: int
) -> NDArray[np.int64]:
    """Return an order whose every batch shows equally many samples of some groups, which are drawn uniformly.

    A group is shown in a random order, a share at a time; when too few are left for a share, another order begins.

    Args:
        random: of the epoch.
        groups: ``(N,)`` in [0, G); each of the G groups has at least ``batch_size / number`` samples.
        batch_size: a multiple of ``number``.
        number: of groups in a batch, in [1, G].

    Returns:
        ``(N // batch_size, batch_size)`` positions in [0, N), none twice in a batch.
    """
    batches, share = len(groups) // batch_size, batch_size // number
    sizes = np.bincount(groups)
    members = np.split(np.argsort(groups, kind="stable"), np.cumsum(sizes)[:-1])
    chosen = random.permuted(np.tile(np.arange(len(sizes)), (batches, 1)), axis=1)[:, :number].ravel()
    times = np.bincount(chosen, minlength=len(sizes))
    shares = [_shares(random, own, share, count) for own, count in zip(members, times, strict=True)]
    order = np.empty((batches * number, share), dtype=np.int64)
    order[np.argsort(chosen, kind="stable")] = np.concatenate(shares)
    # A rank sees a slice of the batch, and its BatchNorm should not see a few of the groups only.
    return random.permuted(order.reshape(batches, batch_size), axis=1)


def _shares(random: np.random.Generator, members: NDArray[np.int64], share: int, count: int) -> NDArray[np.int64]:
    """Cut ``(count, share)`` samples of a group from as many permutations as that takes."""
    each = len(members) // share
    rounds = random.permuted(np.tile(members, (-(-count // each), 1)), axis=1)
    return rounds[:, : each * share].reshape(-1, share)[:count]
