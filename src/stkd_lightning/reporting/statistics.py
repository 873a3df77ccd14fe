"""Mean, standard deviation and confidence interval of a figure over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

FEWEST = 3  # values of an interval: with two it is six times as wide, and depends on their luck
QUANTILE = 1.959964  # of the normal distribution, for 95 %
IMAGES = 2000  # with fewer, the choice of the images matters as much as most differences between methods


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of n values; a single value has no standard deviation.

    Example:
        >>> from stkd_lightning.reporting.statistics import Spread
        >>> accuracies = Spread.of([0.70, 0.71, 0.72])
        >>> accuracies.percent(), round(accuracies.half_interval, 4)
        ('71.00 ± 1.00', 0.0248)
    """

    mean: float
    std: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarize at least one value."""
        return cls(mean(values), stdev(values) if len(values) > 1 else None, len(values))

    def percent(self, factor: float = 100, digits: int = 2) -> str:
        """Return shares as text in percent, such as ``12.34 ± 0.56``, or with another factor other values."""
        number = f"{factor * self.mean:.{digits}f}"
        return number if self.std is None else f"{number} ± {factor * self.std:.{digits}f}"

    def points(self, factor: float = 100) -> str:
        """Return a difference of shares in percentage points with its 95 % interval, such as ``+1.23 ± 0.45``."""
        number = f"{round(factor * self.mean, 2) + 0:+.2f}"  # + 0: no negative zero
        half = self.half_interval
        return number if half is None else f"{number} ± {factor * half:.2f}"

    @property
    def half_interval(self) -> float | None:
        """Half the width of the mean's 95 % confidence interval, by Student's t distribution; two values give none."""
        if self.std is None or self.n < FEWEST:
            return None
        from scipy.stats import t  # the import takes a second, and few runs need it

        return float(t.ppf(0.975, self.n - 1)) * self.std / self.n**0.5


def image_interval(share: float, images: int) -> float:
    """Return half the width of the 95 % confidence interval of a share of images, by Wilson's score interval.

    Args:
        share: in [0, 1].
        images: at least 1.

    Example:
        >>> from stkd_lightning.reporting.statistics import image_interval
        >>> round(image_interval(0.9, 100), 3)
        0.06
    """
    z = QUANTILE
    return float(z / (1 + z**2 / images) * (share * (1 - share) / images + (z / (2 * images)) ** 2) ** 0.5)


def normal_interval(variance: float, images: int) -> float:
    """Return half the width of the 95 % confidence interval of a mean over images, by the normal distribution.

    Args:
        variance: of the values over the images.
        images: at least 1.
    """
    return QUANTILE * float(variance / images) ** 0.5
