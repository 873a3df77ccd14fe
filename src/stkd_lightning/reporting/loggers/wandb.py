"""A W&B logger for runs that matter more than their dashboard."""

import logging
import netrc
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment

from stkd_lightning.reporting.loggers.fault_tolerant import FaultTolerant, words
from stkd_lightning.reporting.loggers.timeouts import unanswered
from stkd_lightning.reporting.loggers.wandb_run import prepare
from stkd_lightning.utilities.redaction import redacted

OFFLINE = ("offline", "dryrun", "disabled")
START, FINISH = 15.0, 8.0  # seconds that the server has to take a run in, and to take what is left at its end
KEEP, UPLOAD = 60.0, 600.0  # the same where the end of a run uploads the student, or any number of checkpoints
ROOM = 1 << 20  # bytes that a run takes at least, logs included


class FaultTolerantWandbLogger(FaultTolerant, WandbLogger):
    """Lightning's W&B logger whose faults end no run and slow none down.

    Where the server does not answer or refuses the run, it is kept on disk; where that fails, too, W&B gets nothing of
    it.

    Args:
        asks: whether the server is asked for an answer before a run is started on it.
        keeps: whether the package's source is kept with the run, and the student when it ends.
        options: those of ``WandbLogger``.
    """

    label = "W&B"

    def __init__(self, *, asks: bool, keeps: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._asks, self.keeps = asks, keeps
        # Lightning passes an option that wandb has retired and warns of.
        self._wandb_init.pop("anonymous", None)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """W&B's run, started when first asked for."""
        if self._experiment is None:
            self._start()
        return super().experiment

    def _start(self) -> None:
        import wandb

        seconds = UPLOAD if self._log_model else KEEP if self.keeps else FINISH
        self._wandb_init["settings"] = _limits(self._wandb_init.get("settings"), seconds)
        modes = [self._wandb_init.get("mode"), "offline", "disabled"]
        run = None
        fault = _unwritable(Path(self.save_dir or ".")) if modes[0] != "disabled" else None
        if fault:
            modes = ["disabled"]
        elif self._asks and modes[0] not in OFFLINE:
            fault = unanswered(f"{server()}/graphql", b'{"query": "query {__typename}"}')
            modes = modes[1:] if fault else modes
            fault = fault and f"{server()}: {fault}"
        for mode in modes:
            self._wandb_init["mode"] = mode
            try:
                with _arguments_redacted():
                    run = super().experiment
                break
            except Exception as error:  # whatever wandb raises
                fault = fault or words(error)
                with suppress(Exception, SystemExit):
                    wandb.teardown()  # it would refuse the same id a second time
        for handler in logging.getLogger("wandb").handlers:
            handler.handleError = lambda record: None  # type: ignore[method-assign] # of a full disk, many times
        if fault and run:
            kept = "not kept for W&B" if run.disabled else f"kept offline; upload it with: {sync(run)}"
            self.warn(f"{fault}; this run is {kept}")
        if run and not run.disabled:
            with self.lenient():
                prepare(run, Path(self.save_dir or "."), source=self.keeps)


def server() -> str:
    """Return the address of the W&B server."""
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")


def sync(run: Any) -> str:
    """Return the shell command that uploads a run from its folder."""
    return f"wandb sync {Path(run.dir).parent}"


def _limits(own: Any, seconds: float) -> Any:
    """Return settings of ``wandb.init`` with limits of time; what the user has set himself wins."""
    import wandb

    if isinstance(own, wandb.Settings):
        return own
    limits = {"init_timeout": START, "finish_timeout": seconds, "finish_timeout_raises": True}
    known = set(wandb.Settings.model_fields)  # older releases have fewer
    return {k: v for k, v in limits.items() if k in known and f"WANDB_{k.upper()}" not in os.environ} | dict(own or {})


def _unwritable(folder: Path) -> str | None:
    """Make the folder in which wandb makes its own; return why it has no room for a run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(ROOM))
    except OSError as error:
        return f"{folder}: cannot be written ({error.strerror})"
    return None


@contextmanager
def _arguments_redacted() -> Iterator[None]:
    """Have the command line without credentials: wandb uploads it with the run."""
    own = sys.argv
    sys.argv = redacted(own)
    try:
        yield
    finally:
        sys.argv = own


def logged_in() -> bool:
    """Return whether an API key for the W&B server is in the environment or in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(urlparse(server()).netloc) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def wandb_logger(
    save_dir: str | Path,
    *,
    offline: bool | None = None,
    id: str | None = None,
    resume: str | None = None,
    keeps: bool = False,
    **options: Any,
) -> WandbLogger:
    """Build a W&B logger that ends no run and slows none down.

    Args:
        save_dir: receives the folder ``wandb``.
        offline: ``None``: offline unless logged in and the server answers; ``False``: the server is not asked before.
            ``WANDB_MODE`` in the environment wins.
        id: of the run; that of an earlier one continues it.
        resume: ``allow`` (``None``), ``must`` or ``never``: whether there may be a run of that ``id``.
        keeps: the package's source, when the run starts, and the student, when it ends.
        options: further arguments of ``WandbLogger`` and ``wandb.init``, for example ``project``, ``group``, ``tags``,
            and ``settings``, a dict of wandb's own.
    """
    mode = os.environ.get("WANDB_MODE")
    if mode is None and (offline or (offline is None and not logged_in())):
        mode = "offline"
    os.environ.setdefault("WANDB_SILENT", "true")
    # Its reports to its makers hold the words of exceptions, and a server that hangs keeps them waiting at exit.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    options |= {} if mode is None else {"mode": "offline" if mode == "dryrun" else mode}
    options |= {} if resume is None else {"resume": resume}
    return FaultTolerantWandbLogger(asks=offline is not False, keeps=keeps, save_dir=save_dir, id=id, **options)
