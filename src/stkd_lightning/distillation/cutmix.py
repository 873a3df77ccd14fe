"""Virtual samples with a rectangle of another sample: CutMix, Yun et al. 2019, Sec. 3.1 (arXiv:1905.04899)."""

from typing import Any

import numpy as np

from stkd_lightning.distillation.mix_draws import BatchDraws
from stkd_lightning.distillation.mixing import Mixing
from stkd_lightning.distillation.mixup import Mixup
from stkd_lightning.utilities import validation


class CutMix(Mixing):
    """Replace a rectangle of each image by that of another sample; of a clip, a band in time.

    The centre is uniform over the pixels; the sides are ``sqrt(1 - l)`` of the image's, rounded down, for l from
    Beta(a, a), and clipped at the borders. The weights of the labels are the shares of the area after clipping. A label
    for each pixel moves with its pixel.

    Args:
        alpha: a > 0; 1 in the paper.
        **options: of ``Mixing``; ``per_sample`` draws a rectangle for each sample instead of one for the batch.

    Raises:
        InputError: an argument outside its range.
    """

    def __init__(self, alpha: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.alpha = validation.positive("mixup.alpha", alpha)

    def draw(self, size: int, random: np.random.Generator, sides: tuple[int, ...] = ()) -> BatchDraws:
        """Draw partners and rectangles; see ``Mixing.draw``."""
        partners = np.stack([np.arange(size), random.permutation(size)], axis=1)
        rows = size if self.per_sample else 1
        share = 1 - random.beta(self.alpha, self.alpha, rows)
        box, area = [], np.ones(rows)
        for side in sides:
            length = np.floor(share ** (1 / len(sides)) * side).astype(np.int64)
            first = random.integers(side, size=rows) - length // 2
            first, end = first.clip(0), (first + length).clip(max=side)
            box += [first, end]
            area = area * (end - first) / side
        mixed = self.drawn_mixed(size, random)
        box_of_each = np.broadcast_to(np.stack(box, axis=1), (size, len(box))) * mixed[:, None]
        partner_weight = np.broadcast_to(area, size) * mixed
        return BatchDraws(partners, np.stack([1 - partner_weight, partner_weight], axis=1), mixed, box_of_each)


class MixupOrCutMix(Mixing):
    """Mix each batch by mixup or by CutMix, each with a chance of 1/2.

    Args:
        alpha: of ``Mixup``, > 0.
        cutmix_alpha: of ``CutMix``, > 0.
        **options: of ``Mixing``.

    Raises:
        InputError: an argument outside its range.
    """

    def __init__(self, alpha: float = 0.2, *, cutmix_alpha: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        validation.positive("mixup.alpha", alpha)
        validation.positive("mixup.cutmix_alpha", cutmix_alpha)
        self.mixup, self.cutmix = Mixup(alpha, **options), CutMix(cutmix_alpha, **options)

    def draw(self, size: int, random: np.random.Generator, sides: tuple[int, ...] = ()) -> BatchDraws:
        """Draw by one of both; see ``Mixing.draw``."""
        if random.random() < 0.5:
            return self.cutmix.draw(size, random, sides)
        return self.mixup.draw(size, random)._replace(box=np.zeros((size, 2 * len(sides)), np.int64))
