"""A second, strongly augmented view of each image: RandAugment, Cubuk et al. 2019 (arXiv:1909.13719)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import RandAugment

from stkd_lightning.data.batches import ResidentBatch
from stkd_lightning.distillation.mix_draws import BatchDraws, MakeTarget
from stkd_lightning.distillation.mixing import Mixing
from stkd_lightning.tasks.types import Batch, MixedTarget, StepContext, VirtualBatch
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.distributed import world
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.random import generator


class StrongView(Mixing):
    """Show each image twice: as it is augmented by the data module, and after RandAugment as well.

    A batch of B samples has 2 B rows, the weak views first; nothing is mixed. The student sees both views in a pass
    each. The operations are torchvision's, their draws a function of (seed, epoch, batch, place in the global batch).

    Args:
        operations: of each image, >= 1.
        magnitude: of all operations, in [0, 30].
        mean: per channel, in [0, 1], by which the data module normalizes; the commands take the data's.
        std: likewise.
        forwards: see ``Mixing``.
        seed: >= 0.

    Raises:
        InputError: an argument outside its range; in ``forward``, inputs that are no images with a label each, or no
            ``mean`` and ``std``.
    """

    has_views = True

    def __init__(
        self,
        *,
        operations: int = 2,
        magnitude: int = 10,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        forwards: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__(keep=True, forwards=forwards, seed=seed)
        self.operations = validation.whole("mixup.operations", operations, minimum=1, maximum=14)
        self.magnitude = validation.whole("mixup.magnitude", magnitude, maximum=30)
        self.mean, self.std = _of_channels("mean", mean), _of_channels("std", std)
        self._augment = RandAugment(self.operations, self.magnitude)

    def draw(self, size: int, random: np.random.Generator, sides: tuple[int, ...] = ()) -> BatchDraws:
        """Draw nothing: no sample has partners."""
        alone = np.arange(size)[:, None]
        return BatchDraws(alone, np.ones((size, 1)), np.zeros(size, np.bool_))

    def forward(
        self,
        batch: Batch | ResidentBatch | tuple[Tensor, Tensor],
        context: StepContext | None = None,
        target: MakeTarget = MixedTarget,
    ) -> VirtualBatch:
        """Return both views of a batch; arguments as in ``Mixing.forward``."""
        images, labels = Batch(*batch)[:2]
        if images.ndim != 4 or labels.ndim > 2:
            raise InputError("mixup=strong_view: needs images with a label each, not clips or a label for each pixel")
        if self.mean is None or self.std is None:
            raise InputError("StrongView: needs mean and std, by which the data module normalizes its images")
        if {len(self.mean), len(self.std)} != {images.shape[1]}:
            raise InputError(
                f"mixup=strong_view: mixup.mean and mixup.std need {images.shape[1]} numbers, one per channel"
            )
        strong = self._strong(images, context, *(images.new_tensor(v).view(-1, 1, 1) for v in (self.mean, self.std)))
        both = target(torch.cat([labels, labels])[:, None], labels.new_ones((2 * len(labels), 1), dtype=torch.float32))
        weak = torch.arange(2 * len(labels), device=labels.device) < len(labels)
        return VirtualBatch(torch.cat([images, strong]), replace(both, clean=weak))

    def _strong(self, images: Tensor, context: StepContext | None, mean: Tensor, std: Tensor) -> Tensor:
        """Return the strong views of normalized images ``(B, C, H, W)``."""
        first = world()[0] * len(images)
        epoch, step = (context.epoch, context.step) if context else (int(torch.randint(2**62, ())), 0)
        levels = ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
        seeds = generator(self.seed, "view", epoch, step).integers(2**62, size=len(images) * world()[1])
        views = []
        with torch.random.fork_rng(devices=[]):  # RandAugment draws from torch's generator of the CPU
            for image, seed in zip(levels, seeds[first : first + len(images)], strict=True):
                torch.default_generator.manual_seed(int(seed))
                views.append(self._augment(image))
        return ((torch.stack(views).to(images.dtype) / 255 - mean) / std).to(images.dtype)


def _of_channels(name: str, values: Sequence[float] | None) -> tuple[float, ...] | None:
    if values is None:
        return None
    if isinstance(values, int | float | str):
        raise InputError(f"mixup.{name}={values}: must be a list of a number per channel")
    return tuple(validation.non_negative(f"mixup.{name}", value) for value in values)
