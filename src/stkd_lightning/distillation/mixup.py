"""Virtual samples: convex combinations of a batch's samples. mixup, Zhang et al. 2018 (arXiv:1710.09412), Eq. 1."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stkd_lightning.data.batches import ResidentBatch
from stkd_lightning.tasks.types import Batch, MixedTarget, StepContext, VirtualBatch
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.distributed import gather, world
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.random import generator


def check_mixable(loss: nn.Module, mixup: "Mixup") -> None:
    """Refuse to mix for a loss that is not defined on virtual samples.

    Raises:
        InputError: names the loss, or the part of a sum.
    """
    if mixup.mixes and not getattr(loss, "mixable", True):
        *_, part = (m for m in loss.modules() if not getattr(m, "mixable", True))
        raise InputError(f"mixup: {type(part).__name__} is not defined on virtual samples; train with mixup=none")


BLOCK = 64  # batches whose draws are made and copied to the device at once

MakeTarget = Callable[[Tensor, Tensor], MixedTarget]


class MixDraws(NamedTuple):
    """Partners ``(..., B, k)``, places in the global batch of which the first is the sample's, and their weights."""

    partners: Tensor
    weights: Tensor

    def to(self, device: torch.device) -> "MixDraws":
        """Return the draws on a device."""
        return MixDraws(self.partners.to(device), self.weights.to(device))


def combine(images: Tensor, draws: MixDraws, at: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the convex combinations of images ``(B, ...)`` with their partners.

    Args:
        images: float, of this rank.
        draws: of one batch.
        at: from places in the global batch ``(B,)`` to images.
    """
    shape = (-1,) + (1,) * (images.ndim - 1)
    virtual = draws.weights[:, 0].view(shape) * images
    for j in range(1, draws.weights.shape[1]):
        virtual = virtual + draws.weights[:, j].view(shape) * at(draws.partners[:, j])
    return virtual.to(images.dtype)


@dataclass(frozen=True)
class _Block:
    """The draws of some batches of an epoch on a device, and which of the batches have a mixed sample on any rank."""

    key: tuple[int, int, int, torch.dtype, torch.device, tuple[int, int]]
    draws: MixDraws
    mixed: NDArray[np.bool_]


class Mixup(nn.Module):
    """Mix each sample with k - 1 others of the global batch.

    Partners and weights are a function of (seed, epoch, batch), so a sweep over losses sees the same virtual
    samples in every run. With several ranks, partners come from the global batch: a rank makes partners of resident
    data by itself, and gathers those of other loaders.

    Args:
        alpha: parameter a > 0 of Beta(a, a) for k = 2, of the symmetric Dirichlet for k > 2.
        k: samples in one combination, >= 2.
        per_sample: draw weights for each sample instead of once for the batch.
        probability: chance in [0, 1] that a batch is mixed at all.
        fraction: share in [0, 1] of a mixed batch's samples that are mixed; the rest stay unmixed.
        seed: >= 0.

    Raises:
        InputError: an argument outside its range.

    Example:
        >>> import torch
        >>> from stkd_lightning import Mixup
        >>> images, labels = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
        >>> virtual = Mixup()((images, labels))
        >>> virtual.images.shape, virtual.target.labels.shape, virtual.target.weights.sum(1)
        (torch.Size([4, 3, 8, 8]), torch.Size([4, 2]), tensor([1., 1., 1., 1.]))
    """

    def __init__(
        self,
        alpha: float = 0.2,
        *,
        k: int = 2,
        per_sample: bool = False,
        probability: float = 1.0,
        fraction: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.alpha = validation.positive("mixup.alpha", alpha)
        self.k = validation.whole("mixup.k", k, minimum=2)
        self.per_sample = per_sample
        self.probability = validation.unit_interval("mixup.probability", probability)
        self.fraction = validation.unit_interval("mixup.fraction", fraction)
        self.seed = validation.whole("mixup.seed", seed)
        self._block: _Block | None = None  # of the last batch; the draws depend on nothing but its key

    @property
    def mixes(self) -> bool:
        """True if any sample is ever mixed."""
        return self.probability > 0 and self.fraction > 0

    def draw(self, size: int, random: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Draw partners ``(size, k)``, the first of which is the sample itself, and their weights ``(size, k)``."""
        others = [random.permutation(size) for _ in range(self.k - 1)]
        partners = np.stack([np.arange(size), *others], axis=1)
        weights = np.broadcast_to(
            random.dirichlet([self.alpha] * self.k, size if self.per_sample else 1), (size, self.k)
        ).copy()
        mixed = random.permutation(size) < round(self.fraction * size)
        if random.random() >= self.probability:
            mixed[:] = False
        weights[~mixed] = np.eye(self.k)[0]
        return partners, weights

    def table(
        self, epoch: int, steps: range, size: int, dtype: torch.dtype = torch.float32
    ) -> tuple[MixDraws, NDArray[np.bool_]]:
        """Draw this rank's part of some batches of an epoch.

        Args:
            epoch: counted from 0.
            steps: batches of the epoch, N of them.
            size: samples of the rank's part, B.
            dtype: of the weights.

        Returns:
            Draws ``(N, B, k)`` on the CPU, and for each batch ``(N,)`` whether it has a mixed sample on any rank.
        """
        rank, ranks = world()
        drawn = [self.draw(size * ranks, generator(self.seed, "mixup", epoch, step)) for step in steps]
        partners, weights = (np.stack(part) for part in zip(*drawn, strict=True))
        places = slice(rank * size, (rank + 1) * size)
        draws = MixDraws(torch.from_numpy(partners[:, places].copy()), torch.from_numpy(weights[:, places]).to(dtype))
        return draws, weights[:, :, 0].min(1) < 1

    def _draws(self, images: Tensor, context: StepContext | None) -> tuple[MixDraws, bool]:
        """Return the draws of a batch on its device, and whether it has a mixed sample on any rank."""
        dtype = torch.promote_types(images.dtype, torch.float32)
        epoch, step = (context.epoch, context.step) if context else (int(torch.randint(2**62, ())), 0)
        # Without a context, or where batches differ in size, the next batches are not known.
        known = context is not None and (self._block is None or self._block.key[2] == len(images))
        block = BLOCK if known else 1
        start = step // block * block
        key = (epoch, start, len(images), dtype, images.device, world())
        if self._block is None or self._block.key != key:
            draws, mixed = self.table(epoch, range(start, start + block), len(images), dtype)
            self._block = _Block(key, draws.to(images.device), mixed)
        draws, mixed = self._block.draws, self._block.mixed
        return MixDraws(draws.partners[step - start], draws.weights[step - start]), bool(mixed[step - start])

    def forward(
        self,
        batch: Batch | ResidentBatch | tuple[Tensor, Tensor],
        context: StepContext | None = None,
        target: MakeTarget = MixedTarget,
    ) -> VirtualBatch:
        """Mix a batch.

        Args:
            batch: inputs ``(B, ...)`` float and labels ``(B, ...)``; the rank's slice of the global batch.
            context: epoch and batch, which determine the draw; ``None``: torch's global generator does.
            target: makes the target of labels ``(B, k, ...)`` and weights ``(B, k)``, as ``Task.target`` does.

        Raises:
            InputError: images that are not floating point.
        """
        images, labels = Batch(*batch)[:2]
        if not images.is_floating_point():
            raise InputError(f"mixup needs floating-point images, got {images.dtype}: normalize before mixing")
        if not self.mixes:
            return VirtualBatch(images, target(labels[:, None], labels.new_ones((len(labels), 1), dtype=torch.float32)))
        draws, mixed = self._draws(images, context)
        resident = batch if isinstance(batch, ResidentBatch) and world()[1] > 1 else None
        mixed_labels = resident.labels_at(draws.partners) if resident else gather(labels)[draws.partners]
        mixed_target = target(mixed_labels, draws.weights)
        if not mixed:
            return VirtualBatch(images, mixed_target)
        images_at = resident.images_at if resident else partial(gather(images).index_select, 0)
        return VirtualBatch(combine(images, draws, images_at), mixed_target)
