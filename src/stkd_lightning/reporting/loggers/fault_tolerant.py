"""Loggers for runs that matter more than their dashboards."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from rich.markup import escape

from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import reason
from stkd_lightning.utilities.redaction import redacted


class FaultTolerant(Logger):
    """Comes before one of Lightning's loggers among a class's bases; has its faults end no run.

    The first fault is told in one line, later ones are passed over. Credentials are left out of the configuration.

    Attributes:
        label: what people call the dashboard.
        gives_up: after the first fault nothing is tried any more.
    """

    label: str
    gives_up = False
    _told = False

    @contextmanager
    def lenient(self) -> Iterator[None]:
        """Have what fails within be a warning."""
        try:
            yield
        except Exception as error:  # whatever a dashboard raises; the run has files of its own
            self.warn(f"{words(error)}; the run goes on without it")

    def warn(self, text: str) -> None:
        """Warn once."""
        if not self._told:
            print_rank_zero(f"[yellow]warning: {self.label}: {escape(redacted(text))}[/yellow]")
        self._told = True

    @property
    def given_up(self) -> bool:
        """Whether nothing is tried any more."""
        return self._told and self.gives_up

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log, or warn once."""
        if not self.given_up:
            with self.lenient():
                super().log_metrics(dict(metrics), step)  # type: ignore[safe-super]

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log without credentials, or warn once."""
        if not self.given_up:
            with self.lenient():
                super().log_hyperparams(redacted(params), *args, **kwargs)  # type: ignore[safe-super]

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Log, or warn once."""
        if not self.given_up:
            with self.lenient():
                super().after_save_checkpoint(checkpoint_callback)

    def save(self) -> None:
        """Write what is left, or warn once."""
        if not self.given_up:
            with self.lenient():
                super().save()

    def finalize(self, status: str = "success") -> None:
        """Log what is left, or warn once."""
        if not self.given_up:
            with self.lenient():
                super().finalize(status)


def words(error: Exception) -> str:
    """Return what an exception of a dashboard says."""
    return reason(error).replace("<no message>", f"refused ({type(error).__name__})")


class SkipsLoggedSteps(FaultTolerant):
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
