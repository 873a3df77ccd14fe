"""A logger of a run that goes on: what it holds already is not logged a second time."""

from abc import abstractmethod
from collections.abc import Mapping

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from stkd_lightning.reporting.lenient import Lenient


class Continued(Lenient):
    """Passes over figures of steps that an earlier part of the run has logged.

    After ``kill -9`` a run does the work since its last checkpoint again, and its figures come out equal, so that
    which of the two are kept makes no difference.
    """

    _before: dict[str, int] | None = None

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log what is new, or warn once."""
        if self.given_up:
            return
        if self._before is None:
            self._before = {}
            with self.lenient():
                self._before = self.last_steps()
        at = 0 if step is None else step
        new = {name: value for name, value in metrics.items() if at > self._before.get(name, -1)}
        if new:
            super().log_metrics(new, step)

    @abstractmethod
    def last_steps(self) -> dict[str, int]:
        """Return, for each figure that an earlier part of the run has logged, its last step."""
