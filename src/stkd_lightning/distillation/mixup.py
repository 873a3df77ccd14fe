"""Virtual samples: convex combinations of a batch's samples. mixup, Zhang et al. 2018 (arXiv:1710.09412), Eq. 1."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

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


class Mixup(nn.Module):
    """Mix each sample with k - 1 others of the global batch.

    Partners and weights are a function of (seed, epoch, batch), so a sweep over losses sees the same virtual
    samples in every run. With several ranks, partners come from the gathered global batch.

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

    def forward(
        self,
        batch: Batch | tuple[Tensor, Tensor],
        context: StepContext | None = None,
        target: Callable[[Tensor, Tensor], MixedTarget] = MixedTarget,
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
        rank, ranks = world()
        size = len(images)
        position = (context.epoch, context.step) if context else (int(torch.randint(2**62, ())),)
        partners, weights = self.draw(size * ranks, generator(self.seed, "mixup", *position))
        mine = slice(rank * size, (rank + 1) * size)
        partner = torch.from_numpy(partners[mine]).to(images.device, non_blocking=True)
        dtype = torch.promote_types(images.dtype, torch.float32)
        weight = torch.from_numpy(weights[mine]).to(dtype).to(images.device, non_blocking=True)
        if weights[:, 0].min() == 1:  # no sample of the global batch is mixed, on any rank
            return VirtualBatch(images, target(gather(labels)[partner], weight))
        everyone = gather(images)
        shape = (-1,) + (1,) * (images.ndim - 1)
        virtual = weight[:, 0].view(shape) * images
        for j in range(1, self.k):
            virtual = virtual + weight[:, j].view(shape) * everyone.index_select(0, partner[:, j])
        return VirtualBatch(virtual.to(images.dtype), target(gather(labels)[partner], weight))
