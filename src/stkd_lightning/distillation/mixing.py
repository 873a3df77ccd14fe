"""Virtual samples of batches: the base class of all ways to mix."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stkd_lightning.data.batches import ResidentBatch
from stkd_lightning.distillation.mix_draws import BatchDraws, MakeTarget, MixDraws, Samples, sides_of, virtual_batch
from stkd_lightning.tasks.types import Batch, MixedTarget, StepContext, VirtualBatch
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.distributed import gather, world
from stkd_lightning.utilities.errors import InputError, UndefinedError, unknown
from stkd_lightning.utilities.random import generator

BLOCK = 64  # batches whose draws are made and copied to the device at once
PARTNERS = ("any", "other_class")


def check_mixable(loss: nn.Module, mixup: "Mixing | None", size: int | None = None) -> None:
    """Refuse to mix for a loss that is not defined on virtual samples, or that needs other ones.

    Args:
        loss: of the run.
        mixup: the way to mix.
        size: samples of a global batch; ``None``: not known yet.

    Raises:
        UndefinedError: names the loss, or the part of a sum.
    """
    parts = list(loss.modules())
    if not (mixup and mixup.has_views) and (part := next((p for p in parts if getattr(p, "needs_views", False)), None)):
        raise UndefinedError(f"{type(part).__name__}: needs two views of each image; set mixup=strong_view")
    if mixup is None:
        return
    if mixup.mixes and not getattr(loss, "mixable", True):
        *_, part = (m for m in parts if not getattr(m, "mixable", True))
        raise UndefinedError(f"mixup: {type(part).__name__} is not defined on virtual samples; train with mixup=none")
    option = next(filter(None, (getattr(part, "needs_clean", "") for part in parts)), None)
    if option and not mixup.leaves_clean(size):
        raise UndefinedError(f"{option}: no sample is left clean; mixup=beta mixup.keep=true shows clean ones, too")


def check_inputs(mixup: "Mixing", *, dense: bool, clips: bool) -> None:
    """Refuse a way to mix that is not defined for a kind of data.

    Args:
        mixup: the way to mix.
        dense: the data have a label for each pixel.
        clips: the inputs are clips instead of images.

    Raises:
        UndefinedError: names the option.
    """
    if mixup.has_views and (dense or clips):
        raise UndefinedError("mixup=strong_view: needs images with a label each, not clips or a label for each pixel")
    if mixup.partner == "other_class" and dense:
        raise UndefinedError("mixup.partner=other_class: needs a label for each sample, not for each pixel; set any")


def check_order(mixup: "Mixing", *, look_ahead: int, replay: bool, teacher: bool) -> None:
    """Refuse settings in which the network that orders the samples is not known before the step, or not there.

    Raises:
        UndefinedError: names the setting.
    """
    obstacles = {f"teacher.look_ahead={look_ahead}": look_ahead > 1, "teacher.replay=true": replay}
    if mixup.asks == "student" and any(obstacles.values()):
        named = next(name for name, given in obstacles.items() if given)
        raise UndefinedError(
            f"mixup.score=student: {named} needs samples that do not depend on the student; set teacher"
        )
    if mixup.asks == "teacher" and not teacher:
        raise UndefinedError("mixup.score=teacher: this loss has no teacher; set mixup.score=student")


@dataclass(frozen=True)
class _Block:
    """The draws of some batches of an epoch on a device, and which of the batches have a mixed sample on any rank."""

    key: tuple[int, int, tuple[int, ...], torch.dtype, torch.device, tuple[int, int]]
    draws: MixDraws
    mixed: NDArray[np.bool_]


class Mixing(nn.Module, ABC):
    """Mix each sample with others of the global batch; a subclass draws partners and weights.

    Draws are a function of (seed, epoch, batch), so a sweep over losses sees the same virtual samples in every run.
    With several ranks, partners come from the global batch: a rank makes partners of resident data by itself, and
    gathers those of other loaders.

    Args:
        per_sample: draw for each sample instead of once for the batch.
        probability: chance in [0, 1] that a batch is mixed at all.
        fraction: share in [0, 1] of a mixed batch's samples that are mixed; the rest stay clean.
        keep: show the clean samples beside the virtual ones: a batch of B samples has 2 B rows, the clean ones first.
        forwards: passes of the student over these rows, 1 or 2; BatchNorm sees all rows at once, or clean and virtual
            rows by themselves.
        partner: ``"any"``, or ``"other_class"``: the first sample from the drawn one on, cyclic in the global batch,
            whose label differs; without one the sample stays clean.
        seed: >= 0.

    Attributes:
        asks: the network that orders the samples, ``"student"`` or ``"teacher"``; ``None``: there is no order.
        has_views: whether the virtual rows are strong views of the clean ones.

    Raises:
        InputError: an argument outside its range.
    """

    asks: str | None = None
    has_views: bool = False

    def __init__(
        self,
        *,
        per_sample: bool = False,
        probability: float = 1.0,
        fraction: float = 1.0,
        keep: bool = False,
        forwards: int = 1,
        partner: Literal["any", "other_class"] = "any",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.per_sample = per_sample
        self.probability = validation.unit_interval("mixup.probability", probability)
        self.fraction = validation.unit_interval("mixup.fraction", fraction)
        self.keep = validation.switch("mixup.keep", keep)
        self.forwards = validation.whole("mixup.forwards", forwards, minimum=1, maximum=2)
        if partner not in PARTNERS:
            raise unknown("mixup.partner", str(partner), PARTNERS)
        self.partner = partner
        self.seed = validation.whole("mixup.seed", seed)
        if self.keep and not self.mixes:
            raise InputError("mixup.keep=true: no sample is mixed; set mixup.probability and mixup.fraction above 0")
        if self.forwards == 2 and not self.keep:
            raise InputError("mixup.forwards=2: needs clean rows beside the virtual ones; set mixup.keep=true")
        self._block: _Block | None = None  # of the last batch; the draws depend on nothing but its key

    @property
    def mixes(self) -> bool:
        """True if any sample is ever mixed."""
        return self.probability > 0 and self.fraction > 0

    def leaves_clean(self, size: int | None = None) -> bool:
        """Return whether some samples are left clean, whatever their labels are.

        Args:
            size: samples of a global batch, of which the fraction is rounded; ``None``: large.
        """
        whole = self.fraction == 1 or (size is not None and round(self.fraction * size) == size)
        return self.keep or self.probability < 1 or not whole

    def rows(self, size: int) -> int:
        """Return the rows of a batch of some samples."""
        return 2 * size if self.keep else size

    @abstractmethod
    def draw(self, size: int, random: np.random.Generator, sides: tuple[int, ...] = ()) -> BatchDraws:
        """Draw the partners and weights of a global batch.

        Args:
            size: G, samples of the batch.
            random: for this batch.
            sides: of an input; see ``sides_of``.
        """

    def drawn_mixed(self, size: int, random: np.random.Generator) -> NDArray[np.bool_]:
        """Draw which samples ``(G,)`` are mixed."""
        mixed = random.permutation(size) < round(self.fraction * size)
        if random.random() >= self.probability:
            mixed[:] = False
        return mixed

    def table(
        self, epoch: int, steps: range, size: int, dtype: torch.dtype = torch.float32, sides: tuple[int, ...] = ()
    ) -> tuple[MixDraws, NDArray[np.bool_]]:
        """Draw this rank's part of some batches of an epoch.

        Args:
            epoch: counted from 0.
            steps: batches of the epoch, N of them.
            size: samples of the rank's part, B.
            dtype: of the weights.
            sides: of an input.

        Returns:
            Draws ``(N, B, ...)`` on the CPU, and for each batch ``(N,)`` whether it has a mixed sample on any rank.
        """
        rank, ranks = world()
        drawn = [self.draw(size * ranks, generator(self.seed, "mixup", epoch, step), sides) for step in steps]

        def stacked(parts: Iterable[NDArray[Any]]) -> Tensor:
            return torch.from_numpy(np.stack([part[rank * size : (rank + 1) * size] for part in parts]))

        boxes = [d.box for d in drawn if d.box is not None]
        draws = MixDraws(
            stacked(d.partners for d in drawn),
            stacked(d.weights for d in drawn).to(dtype),
            stacked(d.mixed for d in drawn),
            stacked(boxes) if boxes else None,
        )
        return draws, np.array([d.mixed.any() for d in drawn])

    def _draws(self, inputs: Tensor, context: StepContext | None) -> tuple[MixDraws, bool]:
        """Return the draws of a batch on its device, and whether it has a mixed sample on any rank."""
        dtype = torch.promote_types(inputs.dtype, torch.float32)
        epoch, step = (context.epoch, context.step) if context else (int(torch.randint(2**62, ())), 0)
        shape = len(inputs), *sides_of(inputs)
        # Without a context, or where batches differ in size, the next batches are not known.
        known = context is not None and (self._block is None or self._block.key[2] == shape)
        block = BLOCK if known else 1
        start = step // block * block
        key = (epoch, start, shape, dtype, inputs.device, world())
        if self._block is None or self._block.key != key:
            draws, mixed = self.table(epoch, range(start, start + block), shape[0], dtype, shape[1:])
            self._block = _Block(key, draws.map(lambda part: part.to(inputs.device)), mixed)
        place, mixed = step - start, self._block.mixed
        return self._block.draws.map(lambda part: part[place]), bool(mixed[place])

    def virtual(self, samples: Samples, draws: MixDraws, target: MakeTarget, *, any_mixed: bool = True) -> VirtualBatch:
        """Mix samples by their draws; arguments as in ``virtual_batch``."""
        other_class = self.partner == "other_class"
        return virtual_batch(samples, draws, target, keep=self.keep, other_class=other_class, any_mixed=any_mixed)

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
            InputError: inputs that are not floating point.
        """
        inputs, labels = Batch(*batch)[:2]
        if not inputs.is_floating_point():
            raise InputError(f"mixup needs floating-point images, got {inputs.dtype}: normalize before mixing")
        if not (self.mixes or self.keep):
            return VirtualBatch(inputs, target(labels[:, None], labels.new_ones((len(labels), 1), dtype=torch.float32)))
        draws, mixed = self._draws(inputs, context)
        return self.virtual(samples_of(batch, inputs, labels), draws, target, any_mixed=mixed)


def samples_of(batch: object, inputs: Tensor, labels: Tensor) -> Samples:
    """Return a rank's samples with access to those of all ranks: resident data are made here, others are gathered."""
    total = len(inputs) * world()[1]
    if isinstance(batch, ResidentBatch) and total > len(inputs):
        return Samples(inputs, labels, batch.images_at, batch.labels_at, total)
    everyones = cache(lambda: gather(inputs))
    return Samples(inputs, labels, lambda places: everyones()[places], gather(labels).__getitem__, total)
