"""The time that an allotment leaves."""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """A limit of wall-clock time.

    Attributes:
        end: monotonic time at which the command must have ended.
        reserve: seconds before the end in which cut trainings save and results are written.
    """

    end: float
    reserve: float

    @classmethod
    def of(cls, seconds: float, started: float) -> "Budget":
        """Return the budget of a command; a tenth of it, at most 25 s, is the reserve."""
        return cls(started + seconds, min(25.0, seconds / 10))

    @property
    def left(self) -> float:
        """Seconds that are left for work."""
        return self.end - self.reserve - time.monotonic()

    def fits(self, seconds: float) -> bool:
        """Return true if work of this length ends in time."""
        return seconds <= self.left
