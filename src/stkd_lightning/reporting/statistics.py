"""Mean, standard deviation and confidence interval of a figure over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev


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

    def percent(self) -> str:
        """Return shares as text in percent, such as ``12.34 ± 0.56``."""
        number = f"{100 * self.mean:.2f}"
        return number if self.std is None else f"{number} ± {100 * self.std:.2f}"

    def points(self) -> str:
        """Return a difference of shares in percentage points with its 95 % interval, such as ``+1.23 ± 0.45``."""
        number = f"{round(100 * self.mean, 2) + 0:+.2f}"  # + 0: no negative zero
        half = self.half_interval
        return number if half is None else f"{number} ± {100 * half:.2f}"

    @property
    def half_interval(self) -> float | None:
        """Half the width of the mean's 95 % confidence interval, by Student's t distribution."""
        if self.std is None:
            return None
        from scipy.stats import t  # the import takes a second, and few runs need it

        return float(t.ppf(0.975, self.n - 1)) * self.std / self.n**0.5
