"""The samples of each batch: shuffled, or equally many from some groups.

Peng et al. 2019, Sec. 3, "Strategy for Mini-batch Sampler" (arXiv:1904.01802): groups are classes or superclasses.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stkd_lightning.data.arrays import Arrays
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.choices import SAMPLERS, Sampler
from stkd_lightning.utilities.errors import InputError, unknown

# From an epoch's generator to positions (N // batch_size, batch_size) among the N training samples.
Order = Callable[[np.random.Generator], NDArray[np.int64]]


def shuffled(random: np.random.Generator, *, samples: int, batch_size: int) -> NDArray[np.int64]:
    """Return an order of N samples, each once, without those of an incomplete last batch.

    Args:
        random: generator of the epoch.
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
    """Return an order in which every batch has equally many samples of some groups, drawn uniformly.

    The samples of a group come in random order, one share for each batch; a new random order begins when fewer samples
    than a share are left.

    Args:
        random: generator of the epoch.
        groups: ``(N,)`` in [0, G); each of the G groups has at least ``batch_size / number`` samples.
        batch_size: a multiple of ``number``.
        number: number of groups in a batch, in [1, G].

    Returns:
        ``(N // batch_size, batch_size)`` positions in [0, N); no position occurs twice in a batch.
    """
    batches, share = len(groups) // batch_size, batch_size // number
    sizes = np.bincount(groups)
    members = np.split(np.argsort(groups, kind="stable"), np.cumsum(sizes)[:-1])
    chosen = random.permuted(np.tile(np.arange(len(sizes)), (batches, 1)), axis=1)[:, :number].ravel()
    times = np.bincount(chosen, minlength=len(sizes))
    shares = [_shares(random, group, share, count) for group, count in zip(members, times, strict=True)]
    order = np.empty((batches * number, share), dtype=np.int64)
    order[np.argsort(chosen, kind="stable")] = np.concatenate(shares)
    # Each rank gets a slice of the batch; its BatchNorm should see all groups, not a few.
    return random.permuted(order.reshape(batches, batch_size), axis=1)


def _shares(random: np.random.Generator, members: NDArray[np.int64], share: int, count: int) -> NDArray[np.int64]:
    """Return ``(count, share)`` samples of a group, cut from as many permutations as necessary."""
    each = len(members) // share
    rounds = random.permuted(np.tile(members, (-(-count // each), 1)), axis=1)
    return rounds[:, : each * share].reshape(-1, share)[:count]


LEAST = 4  # samples of each group if the number of groups is not given


def checked(sampler: Any, number: Any) -> tuple[Sampler, int | None]:
    """Return both options, or refuse those that are wrong for any data.

    Args:
        sampler: one of ``SAMPLERS``.
        number: number of classes or superclasses in a batch.

    Raises:
        InputError: an unknown sampler; a number that is not a whole number above 0, or that has no effect.
    """
    if sampler not in SAMPLERS:
        raise unknown("dataset.sampler", str(sampler), SAMPLERS)
    number = validation.optional_whole("dataset.sampler_groups", number, minimum=1)
    if number is not None and sampler == "shuffled":
        raise InputError(
            f"dataset.sampler_groups={number}: has no effect with dataset.sampler=shuffled; "
            "leave it out, or set dataset.sampler=class_uniform"
        )
    return sampler, number


def order_of(
    sampler: Sampler, number: int | None, arrays: Arrays, indices: NDArray[np.int64], *, batch_size: int
) -> Order:
    """Return the function that draws an epoch's order.

    Args:
        sampler: one of ``SAMPLERS``.
        number: number of classes or superclasses in a batch; ``None``: see ``group_number``.
        arrays: the data, with official superclasses; the paper clusters the teacher's features instead.
        indices: ``(N,)`` positions of the training samples in the training split.
        batch_size: samples of a global batch.

    Raises:
        InputError: no superclasses, a batch size that the groups cannot share equally, or too few samples in a group.
    """
    if sampler == "shuffled":
        return partial(shuffled, samples=len(indices), batch_size=batch_size)
    groups, names, kind = arrays.splits["train"].labels.numpy()[indices], arrays.class_names, "classes"
    if sampler == "superclass_uniform":
        if arrays.superclasses is None or arrays.superclass_names is None:
            raise InputError(f"dataset.sampler={sampler}: these data have no superclasses; class_uniform needs none")
        groups, names, kind = np.asarray(arrays.superclasses)[groups], arrays.superclass_names, "superclasses"
    number = group_number(number, len(names), kind, batch_size)
    sizes = np.bincount(groups, minlength=len(names))
    share, least = batch_size // number, sizes.min()
    if least < share:
        smaller = f"dataset.batch_size={least * number} with dataset.sampler_groups={number}"
        raise InputError(
            f"dataset.sampler={sampler}: dataset.batch_size={batch_size} takes {share} images of each of {number} "
            f"{kind}, but {names[sizes.argmin()]!r} has only {least} to train on; "
            f"the nearest is {smaller if least else 'dataset.sampler=shuffled'}"
        )
    return partial(uniform, groups=groups, batch_size=batch_size, number=number)


def group_number(number: int | None, groups: int, kind: str, batch_size: int) -> int:
    """Return the number of groups in a batch.

    Args:
        number: requested number; ``None``: as many as leave 4 samples for each, but at least 2.
        groups: number of groups in the data.
        kind: ``classes`` or ``superclasses``.
        batch_size: samples of a global batch.

    Raises:
        InputError: more groups than the data have, or not a divisor of the batch size.
    """
    if number is None:
        if most := _most(groups, batch_size):
            return most
        sizes = (size for size in range(1, batch_size + 2 * LEAST + 1) if _most(groups, size))
        raise InputError(
            f"dataset.batch_size={batch_size}: cannot be shared equally by 2 or more of {groups} {kind} with {LEAST} "
            f"or more images each; the nearest is {min(sizes, key=lambda size: abs(size - batch_size))}, "
            "or set dataset.sampler_groups"
        )
    divisors = _divisors(batch_size, groups)
    if number in divisors:
        return number
    problem = f"there are only {groups} {kind}" if number > groups else f"{batch_size} images cannot be shared equally"
    near = [*[n for n in divisors if n < number][-1:], *[n for n in divisors if n > number][:1]]
    raise InputError(
        f"dataset.sampler_groups={number}: {problem}; nearest divisor of {batch_size}: {' or '.join(map(str, near))}"
    )


def _divisors(batch_size: int, most: int) -> list[int]:
    return [n for n in range(1, min(batch_size, most) + 1) if batch_size % n == 0]


def _most(groups: int, batch_size: int) -> int:
    """Return the largest number of groups with enough samples for each; 0 if it is one of several groups."""
    most = max(_divisors(batch_size, min(groups, batch_size // LEAST)), default=0)
    return 0 if most == 1 < groups else most
