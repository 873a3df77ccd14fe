"""Messages of a command that ends early: a mistake of the user, a failure of the machine, or a signal."""

import errno
import os
import shlex
import sys
from pathlib import Path

from hydra.errors import ConfigCompositionException, HydraException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from stkd_lightning.commands.config.hints import is_plain, quoted
from stkd_lightning.commands.config.hydra_callbacks import FOLDERS
from stkd_lightning.utilities import signals
from stkd_lightning.utilities.errors import InputError, RunError
from stkd_lightning.utilities.redaction import redacted


def mistake_of(error: BaseException | None) -> str | None:
    """Return the message of a user's mistake, from an exception or its causes; else ``None``."""
    while error is not None:
        if isinstance(error, InputError):
            return " ".join(str(error).split())
        if type(error).__name__ == "MisconfigurationException":  # from Lightning, for example for a missing GPU
            return " ".join(str(error).split())
        if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
            return f"configuration: {error}"
        if isinstance(error, ConfigAttributeError | ConfigKeyError):  # an option was deleted with ~
            return f"option {error.full_key!r}: is needed, but it was deleted"
        no_target = isinstance(error, HydraException) and "Error locating target" in str(error)
        if no_target or isinstance(error, ConfigCompositionException):
            return " ".join(str(error).split())
        error = error.__cause__
    return None


def failure_of(error: BaseException | None) -> str | None:
    """Return the message of a failure of the run or the machine, from an exception or its causes; else ``None``."""
    while error is not None:
        if isinstance(error, RunError):
            return " ".join(str(error).split())
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
            return f"{error.filename or 'the output'}: cannot be written ({error.strerror})"
        error = error.__cause__
    return None


def is_temporary(error: BaseException | None) -> bool:
    """Return true if the same command may succeed the next time."""
    while error is not None:
        if isinstance(error, RunError):
            return error.passes
        error = error.__cause__
    return True


def interruption(interrupt: signals.Interrupted, folders: list[Path]) -> str:
    """Return the line for an interrupted run; let SLURM start the job again if its time limit was reached."""
    saved = f" {interrupt.saved}" if interrupt.saved else ""
    if interrupt.requeues and signals.requeue():
        requeued = "SLURM starts the job again" + ("" if "resume=auto" in sys.argv else ", but without resume=auto")
        return f"interrupted by {interrupt.received.name}{saved}; {requeued}"
    return f"interrupted by {interrupt.received.name}{saved}{resume_hint(folders)}"


def resume_hint(folders: list[Path]) -> str:
    """Return the command that resumes the sweep, or the run in the last folder."""
    key, folders = ("hydra.sweep.dir", FOLDERS) if FOLDERS else ("hydra.run.dir", folders)
    if not folders:
        return ""
    path = str(_relative(folders[-1]))
    folder = f"{key}={path if is_plain(path) else quoted(path)}"
    if "TORCHELASTIC_RUN_ID" in os.environ or "SLURM_STEP_ID" in os.environ:
        return f"; to resume, repeat the command with {shlex.quote(folder)} resume=auto"
    dropped = {key, "resume"} | ({"hydra.job.name", "hydra.output_subdir"} if "LOCAL_RANK" in os.environ else set())
    arguments = [a for a in redacted(sys.argv[1:]) if a.partition("=")[0] not in dropped]
    module = sys.modules["__main__"].__spec__
    command = ["python", "-m", module.name] if module else [Path(sys.argv[0]).name]
    return f"; resume with: {shlex.join([*command, *arguments, folder, 'resume=auto'])}"


def _relative(folder: Path) -> Path:
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
