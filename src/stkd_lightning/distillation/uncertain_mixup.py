"""Uncertainty-aware mixup: UNIXKD, Xu et al. 2020 (arXiv:2012.09413)."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from stkd_lightning.data.batches import ResidentBatch
from stkd_lightning.distillation.mix_draws import BatchDraws, MakeTarget, MixDraws, Samples, virtual_batch
from stkd_lightning.distillation.mixing import Mixing, samples_of
from stkd_lightning.tasks.types import Batch, MixedTarget, StepContext, VirtualBatch
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.distributed import gather, world
from stkd_lightning.utilities.errors import InputError, unknown
from stkd_lightning.utilities.random import generator

SCORES = ("student", "teacher")
STEEPNESS, CENTRE = 10.0, 63 / 128  # of the weight's sigmoid, over the rank divided by the batch


class UncertainMixup(Mixing):
    """Mix the samples that a network is sure of, and show those that it is unsure of nearly clean.

    The network scores the global batch of G samples by the entropy of its prediction, without gradients and in the mode
    of its training. In the order of falling entropy, equal ones by their place, the sample of rank r (from 0) gets the
    weight ``1 - m`` and its partner m::

        m = l * sigmoid(10 (r / G - 63 / 128)),    l ~ U(0, 1) for the batch

    The last samples of the order are dropped. So a step costs a pass of the network over the batch more, and the passes
    over the dropped rows less. In the paper there is no hard label: ``loss.hard_label=none``.

    Args:
        score: the network, ``"student"`` or ``"teacher"``. The student's excludes look-ahead and replay of the teacher.
        kept: share in (0, 1] of the samples that are kept; 48 of 64 in the paper.
        partner: see ``Mixing``.
        seed: >= 0.

    Raises:
        InputError: an argument outside its range.
    """

    def __init__(
        self,
        *,
        score: Literal["student", "teacher"] = "student",
        kept: float = 0.75,
        partner: Literal["any", "other_class"] = "any",
        seed: int = 0,
    ) -> None:
        super().__init__(partner=partner, seed=seed)
        if score not in SCORES:
            raise unknown("mixup.score", str(score), SCORES)
        self.asks = score
        self.kept = validation.positive("mixup.kept", validation.unit_interval("mixup.kept", kept))

    def rows(self, size: int) -> int:
        """Return the rows of a batch of some samples: those that are kept."""
        return max(1, round(self.kept * size))

    def draw(self, size: int, random: np.random.Generator, sides: tuple[int, ...] = ()) -> BatchDraws:
        """Draw partners, and l as the weight of all partners; see ``Mixing.draw``."""
        partners = np.stack([np.arange(size), random.permutation(size)], axis=1)
        share = random.uniform()
        return BatchDraws(partners, np.broadcast_to([1 - share, share], (size, 2)), np.ones(size, np.bool_))

    def forward(
        self,
        batch: Batch | ResidentBatch | tuple[Tensor, Tensor],
        context: StepContext | None = None,
        target: MakeTarget = MixedTarget,
        entropy: Callable[[Tensor], Tensor] | None = None,
    ) -> VirtualBatch:
        """Mix a batch, and return the rows that are kept.

        Args:
            batch: see ``Mixing.forward``.
            context: see there.
            target: see there.
            entropy: from inputs ``(B, ...)`` to the entropies ``(B,)`` of the network's predictions.

        Raises:
            InputError: inputs that are not floating point.
            ValueError: no entropies.
        """
        if entropy is None:
            raise ValueError("UncertainMixup needs the entropies of a network; train with DistillationModule")
        inputs, labels = Batch(*batch)[:2]
        if not inputs.is_floating_point():
            raise InputError(f"mixup needs floating-point images, got {inputs.dtype}: normalize before mixing")
        samples, (rank, processes) = samples_of(batch, inputs, labels), world()
        order = gather(entropy(inputs)).sort(descending=True, stable=True).indices
        count = self.rows(len(inputs))
        # A process has rows from the whole order, so that its BatchNorm statistics are those of all.
        ranks = torch.arange(count, device=inputs.device) * processes + rank
        epoch, step = (context.epoch, context.step) if context else (int(torch.randint(2**62, ())), 0)
        drawn = self.draw(samples.total, generator(self.seed, "mixup", epoch, step))
        places = order[ranks]
        partners = torch.from_numpy(drawn.partners[:, 1].copy()).to(inputs.device)[places]
        dtype = torch.promote_types(inputs.dtype, torch.float32)
        share = drawn.weights[0, 1] * torch.sigmoid(STEEPNESS * (ranks.to(dtype) / samples.total - CENTRE))
        draws = MixDraws(
            torch.stack([places, partners], dim=1),
            torch.stack([1 - share, share], dim=1),
            torch.ones_like(places, dtype=torch.bool),
        )
        kept = Samples(
            samples.inputs_at(places), samples.labels_at(places), samples.inputs_at, samples.labels_at, samples.total
        )
        return virtual_batch(kept, draws, target, other_class=self.partner == "other_class")
