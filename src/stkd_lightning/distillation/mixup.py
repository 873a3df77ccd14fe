"""Virtual samples: convex combinations of a batch's samples. mixup, Zhang et al. 2018 (arXiv:1710.09412), Eq. 1."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stkd_lightning.distillation.mix_draws import BatchDraws
from stkd_lightning.distillation.mixing import Mixing
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import InputError


class Mixup(Mixing):
    """Combine each sample with k - 1 others of the global batch.

    Args:
        alpha: parameter a > 0 of Beta(a, a) for k = 2, of the symmetric Dirichlet for k > 2; ``None`` with ``weights``.
        k: samples in one combination, >= 2.
        dominant: sort the weights, so that the largest is the sample's own.
        weights: k weights >= 0 with sum 1 for all combinations, in place of drawn ones.
        **options: of ``Mixing``: ``per_sample``, ``probability``, ``fraction``, ``keep``, ``forwards``, ``partner``,
            ``seed``.

    Raises:
        InputError: an argument outside its range; alpha beside weights.

    Example:
        >>> import torch
        >>> from stkd_lightning import Mixup
        >>> images, labels = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
        >>> virtual = Mixup()((images, labels))
        >>> virtual.images.shape, virtual.target.labels.shape, virtual.target.weights.sum(1)
        (torch.Size([4, 3, 8, 8]), torch.Size([4, 2]), tensor([1., 1., 1., 1.]))
        >>> virtual = Mixup(keep=True)((images, labels))  # 4 clean rows, then 4 virtual ones
        >>> virtual.images.shape, virtual.target.clean.sum()
        (torch.Size([8, 3, 8, 8]), tensor(4))
    """

    def __init__(
        self,
        alpha: float | None = 0.2,
        *,
        k: int = 2,
        dominant: bool = False,
        weights: Sequence[float] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.k = validation.whole("mixup.k", k, minimum=2)
        self.dominant = validation.switch("mixup.dominant", dominant)
        self.weights = None if weights is None else _constant(weights, self.k)
        if weights is None and alpha is None:
            raise InputError("mixup.alpha=null: needs a number above 0, or mixup.weights; the nearest is 0.2")
        if weights is not None and alpha is not None:
            raise InputError(f"mixup.weights: excludes mixup.alpha={alpha}; set mixup.alpha=null")
        self.alpha = validation.optional_positive("mixup.alpha", alpha)

    def draw(self, size: int, random: np.random.Generator, sides: tuple[int, ...] = ()) -> BatchDraws:
        """Draw partners and weights; see ``Mixing.draw``."""
        others = [random.permutation(size) for _ in range(self.k - 1)]
        partners = np.stack([np.arange(size), *others], axis=1)
        if self.weights is None:
            drawn = random.dirichlet([self.alpha or 0.0] * self.k, size if self.per_sample else 1)
        else:
            drawn = np.array([self.weights])
        if self.dominant:
            drawn = -np.sort(-drawn, axis=1)
        weights = np.broadcast_to(drawn, (size, self.k)).copy()
        mixed = self.drawn_mixed(size, random)
        weights[~mixed] = np.eye(self.k)[0]
        return BatchDraws(partners, weights, mixed)


def _constant(weights: Sequence[float], k: int) -> tuple[float, ...]:
    if isinstance(weights, int | float | str):
        raise InputError(f"mixup.weights={weights}: must be a list of {k} weights with sum 1")
    numbers = tuple(validation.unit_interval("mixup.weights", weight) for weight in weights)
    if len(numbers) != k or not math.isclose(sum(numbers), 1, abs_tol=1e-6):
        raise InputError(f"mixup.weights={list(numbers)}: needs mixup.k={k} weights with sum 1")
    return numbers
