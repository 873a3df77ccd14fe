"""W&B logger whose faults neither stop nor delay a run."""

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

from stkd_lightning.reporting.loggers.fault_tolerant import FaultTolerant, error_text
from stkd_lightning.reporting.loggers.timeouts import server_fault
from stkd_lightning.reporting.loggers.wandb_run import prepare
from stkd_lightning.utilities.redaction import redacted

OFFLINE = ("offline", "dryrun", "disabled")
START, FINISH = 15.0, 8.0  # time limits in seconds to start a run on the server, and to finish it
KEEP, UPLOAD = 60.0, 600.0  # time limits to finish a run that uploads the student, or all checkpoints
ROOM = 1 << 20  # smallest size of a run on disk in bytes, logs included


class FaultTolerantWandbLogger(FaultTolerant, WandbLogger):
    """Lightning's W&B logger, except that its faults neither stop nor delay a run.

    If the server does not answer or refuses the run, the run is logged offline; if that fails too, W&B is disabled.

    Args:
        checks_server: whether the server must answer a request before the run starts online.
        keeps: whether the package's source is uploaded at the start, and the student at the end.
        options: options of ``WandbLogger``.
    """

    label = "W&B"

    def __init__(self, *, checks_server: bool, keeps: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._checks_server, self.keeps = checks_server, keeps
        # Lightning passes a deprecated option, about which wandb warns.
        self._wandb_init.pop("anonymous", None)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """W&B's run; the first access starts it."""
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
        elif self._checks_server and modes[0] not in OFFLINE:
            fault = server_fault(f"{server()}/graphql", b'{"query": "query {__typename}"}')
            modes = modes[1:] if fault else modes
            fault = fault and f"{server()}: {fault}"
        for mode in modes:
            self._wandb_init["mode"] = mode
            try:
                with _redacted_arguments():
                    run = super().experiment
                break
            except Exception as error:  # wandb raises exceptions of any type
                fault = fault or error_text(error)
                with suppress(Exception, SystemExit):
                    wandb.teardown()  # otherwise wandb refuses to reuse the id
        for handler in logging.getLogger("wandb").handlers:
            handler.handleError = lambda record: None  # type: ignore[method-assign] # a full disk gives many errors
        if fault and run:
            state = "not logged to W&B" if run.disabled else f"logged offline; upload it with: {sync_command(run)}"
            self.warn(f"{fault}; this run is {state}")
        if run and not run.disabled:
            with self.faults_as_warnings():
                prepare(run, Path(self.save_dir or "."), source=self.keeps)


def server() -> str:
    """Return the address of the W&B server."""
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")


def sync_command(run: Any) -> str:
    """Return the shell command that uploads an offline run."""
    return f"wandb sync {Path(run.dir).parent}"


def _limits(settings: Any, seconds: float) -> Any:
    """Return settings of ``wandb.init`` with time limits; the user's settings win."""
    import wandb

    if isinstance(settings, wandb.Settings):
        return settings
    limits = {"init_timeout": START, "finish_timeout": seconds, "finish_timeout_raises": True}
    known = set(wandb.Settings.model_fields)  # older releases lack some
    return {k: v for k, v in limits.items() if k in known and f"WANDB_{k.upper()}" not in os.environ} | dict(
        settings or {}
    )


def _unwritable(folder: Path) -> str | None:
    """Create the folder for wandb's files; return why a run cannot be written to it, ``None`` if it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(ROOM))
    except OSError as error:
        return f"{folder}: cannot be written ({error.strerror})"
    return None


@contextmanager
def _redacted_arguments() -> Iterator[None]:
    """Remove credentials from the command line, which wandb uploads with the run."""
    arguments = sys.argv
    sys.argv = redacted(arguments)
    try:
        yield
    finally:
        sys.argv = arguments


def logged_in() -> bool:
    """Return whether the environment or the netrc file contains an API key for the W&B server."""
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
    """Return a W&B logger whose faults neither stop nor delay a run.

    Args:
        save_dir: parent of the folder ``wandb``.
        offline: ``None``: offline unless the user is logged in and the server answers; ``False``: online, without a
            test request. ``WANDB_MODE`` in the environment wins.
        id: id of the run; the id of an earlier run resumes it.
        resume: ``allow`` (also for ``None``), ``must`` or ``never``: whether a run with this ``id`` may, must or must
            not exist.
        keeps: whether the package's source is uploaded at the start, and the student at the end.
        options: further arguments of ``WandbLogger`` and ``wandb.init``, for example ``project``, ``group``, ``tags``,
            and ``settings``, a dict of wandb's settings.
    """
    mode = os.environ.get("WANDB_MODE")
    if mode is None and (offline or (offline is None and not logged_in())):
        mode = "offline"
    os.environ.setdefault("WANDB_SILENT", "true")
    # W&B's error reports contain messages of exceptions, and delay the exit if their server hangs.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    options |= {} if mode is None else {"mode": "offline" if mode == "dryrun" else mode}
    options |= {} if resume is None else {"resume": resume}
    options |= {"save_dir": save_dir, "id": id}
    return FaultTolerantWandbLogger(checks_server=offline is not False, keeps=keeps, **options)
