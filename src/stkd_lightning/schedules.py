"""Learning-rate factors as functions of a run's progress, so that a schedule fits runs of any length."""

import math
from collections.abc import Callable, Sequence

from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import InputError

Schedule = Callable[[float], float]


def _warmup_factor(progress: float, warmup: float) -> float:
    return min(1.0, progress / warmup) if warmup else 1.0


def _share_after(progress: float, warmup: float) -> float:
    """Return the share of the run after its warmup that is over."""
    return (progress - warmup) / (1 - warmup) if warmup < 1 else 1.0


class MultiStep:
    """Multiply by ``gamma`` at each milestone; the defaults are the CIFAR recipe of the distillation literature.

    Args:
        milestones: shares of the run in (0, 1]; the defaults are epochs 150, 180 and 210 of 240.
        gamma: factor > 0.
        warmup: share in [0, 1] of the run in which the factor rises linearly from 0.

    Raises:
        InputError: an argument outside its range.

    Example:
        >>> from stkd_lightning.schedules import MultiStep
        >>> [round(MultiStep()(epoch / 240), 6) for epoch in (0, 149, 150, 180, 210)]
        [1.0, 1.0, 0.1, 0.01, 0.001]
    """

    def __init__(
        self, milestones: Sequence[float] = (0.625, 0.75, 0.875), gamma: float = 0.1, warmup: float = 0.0
    ) -> None:
        for milestone in milestones:
            if milestone > 1:
                raise InputError(
                    f"scheduler.milestones: {milestone} is not a share of the run; epoch 150 of 240 is 0.625"
                )
        self.milestones = [validation.unit_interval("scheduler.milestones", m) for m in milestones]
        self.gamma = validation.positive("scheduler.gamma", gamma)
        self.warmup = validation.unit_interval("scheduler.warmup", warmup)

    def __call__(self, progress: float) -> float:
        """Return the factor at a progress in [0, 1]."""
        # Rounding may put the progress slightly below the milestone that it reaches.
        passed = sum(progress + 1e-9 >= m for m in self.milestones)
        return _warmup_factor(progress, self.warmup) * self.gamma**passed


class Cosine:
    """Decrease along half a cosine: Loshchilov and Hutter 2017 (arXiv:1608.03983), Eq. 5, without restarts.

    Args:
        warmup: share in [0, 1] of the run in which the factor rises linearly from 0.
        final: factor in [0, 1] at the end of the run.

    Raises:
        InputError: an argument outside its range.

    Example:
        >>> from stkd_lightning.schedules import Cosine
        >>> [round(Cosine(warmup=0.1)(progress), 3) for progress in (0.0, 0.05, 0.1, 0.55, 1.0)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    def __init__(self, warmup: float = 0.0, final: float = 0.0) -> None:
        self.warmup = validation.unit_interval("scheduler.warmup", warmup)
        self.final = validation.unit_interval("scheduler.final", final)

    def __call__(self, progress: float) -> float:
        """Return the factor at a progress in [0, 1]."""
        if progress < self.warmup:
            return _warmup_factor(progress, self.warmup)
        share = _share_after(progress, self.warmup)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * share)) / 2


class Polynomial:
    """Decrease by a power of the rest of the run: the "poly" policy of Chen et al. 2018 (arXiv:1606.00915), Sec. 4.1.2.

    Args:
        power: of the rest's share, > 0; segmentation papers use 0.9.
        warmup: share in [0, 1] of the run in which the factor rises linearly from 0.

    Raises:
        InputError: an argument outside its range.

    Example:
        >>> from stkd_lightning.schedules import Polynomial
        >>> [round(Polynomial()(progress), 3) for progress in (0.0, 0.5, 1.0)]
        [1.0, 0.536, 0.0]
    """

    def __init__(self, power: float = 0.9, warmup: float = 0.0) -> None:
        self.power = validation.positive("scheduler.power", power)
        self.warmup = validation.unit_interval("scheduler.warmup", warmup)

    def __call__(self, progress: float) -> float:
        """Return the factor at a progress in [0, 1]."""
        if progress < self.warmup:
            return _warmup_factor(progress, self.warmup)
        return (1 - _share_after(progress, self.warmup)) ** self.power
