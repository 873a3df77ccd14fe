"""Base classes of loggers whose faults do not stop a run."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from stkd_lightning.utilities.console import warn
from stkd_lightning.utilities.errors import reason
from stkd_lightning.utilities.redaction import redacted


class FaultTolerant(Logger):
    """Mixin before one of Lightning's loggers that turns faults into one warning.

    The first fault is a warning of one line; later faults are ignored. The logged configuration has no credentials.

    Attributes:
        label: name of the dashboard for users.
        stops_after_fault: whether the logger does nothing after its first fault.
    """

    label: str
    stops_after_fault = False
    _warned = False

    @contextmanager
    def faults_as_warnings(self) -> Iterator[None]:
        """Turn an exception inside the context into a warning."""
        try:
            yield
        except Exception as error:  # dashboards raise exceptions of any type; the run has its files
            self.warn(f"{error_text(error)}; the run continues without it")

    def warn(self, text: str) -> None:
        """Print a warning, unless there was one."""
        if not self._warned:
            warn(f"{self.label}: {redacted(text)}")
        self._warned = True

    @property
    def stopped(self) -> bool:
        """True if the logger does nothing any more."""
        return self._warned and self.stops_after_fault

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log, or warn once."""
        if not self.stopped:
            with self.faults_as_warnings():
                super().log_metrics(dict(metrics), step)  # type: ignore[safe-super]

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log without credentials, or warn once."""
        if not self.stopped:
            with self.faults_as_warnings():
                super().log_hyperparams(redacted(params), *args, **kwargs)  # type: ignore[safe-super]

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Log, or warn once."""
        if not self.stopped:
            with self.faults_as_warnings():
                super().after_save_checkpoint(checkpoint_callback)

    def save(self) -> None:
        """Write the remaining figures, or warn once."""
        if not self.stopped:
            with self.faults_as_warnings():
                super().save()

    def finalize(self, status: str = "success") -> None:
        """Log the remaining figures, or warn once."""
        if not self.stopped:
            with self.faults_as_warnings():
                super().finalize(status)


def error_text(error: Exception) -> str:
    """Return the message of a dashboard's exception, never an empty one."""
    return reason(error).replace("<no message>", f"refused ({type(error).__name__})")


class SkipsLoggedSteps(FaultTolerant):
    """Mixin that skips figures of steps that an earlier part of the run has logged.

    After ``kill -9`` a resumed run repeats the work since its last checkpoint and produces equal figures, so keeping
    the earlier ones is correct.
    """

    _logged: dict[str, int] | None = None

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log the figures that are new at this step, or warn once."""
        if self.stopped:
            return
        if self._logged is None:
            self._logged = {}
            with self.faults_as_warnings():
                self._logged = self.last_steps()
        position = 0 if step is None else step
        new = {name: value for name, value in metrics.items() if position > self._logged.get(name, -1)}
        if new:
            super().log_metrics(new, step)

    @abstractmethod
    def last_steps(self) -> dict[str, int]:
        """Return the last step of each figure that an earlier part of the run has logged."""
