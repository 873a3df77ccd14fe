"""Running a command: check, then Hydra, then the job; a user's mistake is one line and exit code 2."""

import errno
import os
import shlex
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.commands.config.checks import check, check_fresh, output_folders
from stkd_lightning.commands.config.compose import composed, composing, hide_shared_files, jobs
from stkd_lightning.commands.config.hydra_callbacks import FOLDERS, hide_in_logs, outcome
from stkd_lightning.utilities import signals
from stkd_lightning.utilities.errors import InputError, RunError
from stkd_lightning.utilities.paths import cache_root, conf_dir
from stkd_lightning.utilities.rank import process_rank
from stkd_lightning.utilities.redaction import redacted

EXIT_FAULT = 1
EXIT_MISTAKE = 2
FIRST_RANK_SPEAKS_S = 20.0


def command(config_name: str, job: str) -> None:
    """Run a command of the project.

    Args:
        config_name: the configuration that it composes, for example ``train``.
        job: ``module:function`` of one job, imported only when its configuration is found right.
    """
    before: set[Path] = set()
    made: list[Path] = []
    resumes = config_name == "train"  # the others are done in one go
    hide_in_logs()
    hide_shared_files()
    try:
        signals.listen()
        arguments = get_args_parser().parse_args()
        if not (arguments.hydra_help or arguments.info or arguments.shell_completion):
            before = _check_all(arguments, config_name)
        # Faults reach this handler instead of Hydra's own, which prints several lines and exits with 1.
        os.environ["HYDRA_FULL_ERROR"] = "1"
        raised: list[Exception] = []
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(
            _job(f"stkd_lightning.{config_name}", job, raised, made)
        )()
        if raised:
            raise raised[0]
        if not made:
            sys.stdout.flush()  # short help too is found unread here, and not as Python ends
    except signals.Interrupted as end:
        if process_rank() == 0:
            print(_words(end, made) if resumes else f"interrupted by {end.received.name}", file=sys.stderr)
        sys.exit(end.exit_code)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and not made:  # the reader left, as of `--help | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(EXIT_FAULT)
        fault = _fault(error)
        if fault is not None:
            print(f"error: {redacted(fault)}{_go_on(made) if resumes and _may_go_on(error) else ''}", file=sys.stderr)
            sys.exit(EXIT_FAULT)
        mistake = _mistake(error)
        if mistake is None:
            rank = f"[rank{process_rank()}]: " if "MASTER_ADDR" in os.environ else ""
            text = textwrap.indent("".join(traceback.format_exception(error)), rank, lambda line: True)
            print(redacted(text), end="", file=sys.stderr)
            sys.exit(EXIT_FAULT)
        _remove_empty(made, before)
        if made or os.environ.get("LOCAL_RANK", "0") == "0":  # what the configuration shows, all ranks see
            print(f"error: {redacted(mistake)}", file=sys.stderr)
        else:
            with suppress(signals.Interrupted):  # a launcher ends all ranks when one leaves: the first says why
                time.sleep(FIRST_RANK_SPEAKS_S)
        sys.exit(EXIT_MISTAKE)


def _check_all(arguments: Any, config_name: str) -> set[Path]:
    """Compose and check every job; return those folders on the way to its output that are there already."""
    name = arguments.config_name or config_name
    with composing(arguments.config_path):
        swept: dict[str, str] = {}
        # The first values of a sweep from the command line tell whether the configuration brings a sweep of its own.
        first = composed(name, jobs(arguments.overrides, {}, config_dir=arguments.config_dir)[0], arguments.config_dir)
        multirun = arguments.multirun or first.hydra.mode == RunMode.MULTIRUN
        if multirun:
            swept = {k: str(v) for k, v in (first.hydra.sweeper.get("params") or {}).items()}
        draws = multirun and not str(first.hydra.sweeper._target_).endswith(".BasicSweeper")
        singles = [arguments.overrides]
        if multirun:
            singles = jobs(arguments.overrides, swept, intervals=draws, config_dir=arguments.config_dir)
        for overrides in singles:
            config = composed(name, overrides, arguments.config_dir)
            if multirun:
                config.hydra.mode = RunMode.MULTIRUN
            if not (arguments.help or arguments.cfg):
                check(config)
        if arguments.help or arguments.cfg:
            return set()
        return {p for folder in output_folders(config) for p in _chain(folder) if p.exists()}


def _chain(folder: Path) -> Iterator[Path]:
    yield folder.absolute()
    yield from folder.absolute().parents


def _job(program: str, job: str, raised: list[Exception], made: list[Path]) -> Callable[[DictConfig], Any]:
    """Return what Hydra calls; a single job's exception is kept aside, since Hydra would add a line of its own."""

    def run(config: DictConfig) -> Any:
        folder = Path(HydraConfig.get().runtime.output_dir)
        made.append(folder)
        if _sweeps_over_processes(config):
            return _in_own_process(program)
        # Importing Lightning chooses a folder for compiled code that does not outlive the machine's next start.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_root(config.cache_dir).absolute() / "compiled"))
        module, function = job.split(":")
        OmegaConf.set_readonly(config, True)  # what was checked is what runs
        try:
            check_fresh(config, folder)
            return getattr(import_module(module), function)(config)
        except Exception as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            raised.append(error)

    return run


def _sweeps_over_processes(config: DictConfig) -> bool:
    """Return whether a job of a sweep will start further processes, which would start the whole sweep again."""
    trainer = config.get("trainer") or {}
    several = trainer.get("strategy") not in (None, "auto") or trainer.get("devices") not in (None, 1, "1")
    return HydraConfig.get().mode == RunMode.MULTIRUN and several and "LOCAL_RANK" not in os.environ


def _in_own_process(program: str) -> float | None:
    """Run one job of a sweep as a command of its own, with that job's overrides only; return what it came to."""
    settings = HydraConfig.get()
    folder = settings.runtime.output_dir
    own = [source.path for source in settings.runtime.config_sources if source.provider == "command-line"]
    flags = ["--config-name", settings.job.config_name or "train", *(f for path in own for f in ("--config-dir", path))]
    task: Any = OmegaConf.to_container(settings.overrides.task, resolve=False)
    overrides = [*task, f"hydra.run.dir='{folder}'", "hydra.mode=RUN"]
    code = signals.run_child([sys.executable, "-m", program, *flags, *overrides])
    if code == EXIT_MISTAKE:
        raise InputError(f"job {settings.job.num} of the sweep: refused, see above")
    if code:
        raise RunError(f"job {settings.job.num} of the sweep failed with exit code {code}: {folder}")
    return outcome(Path(folder))


def _words(end: signals.Interrupted, made: list[Path]) -> str:
    """Say what ended a run, and how to go on; have SLURM start its job again where it ended for lack of time."""
    saved = f" {end.saved}" if end.saved else ""
    if end.requeues and signals.requeue():
        again = "SLURM starts the job again" + ("" if "resume=auto" in sys.argv else ", but without resume=auto")
        return f"interrupted by {end.received.name}{saved}; {again}"
    return f"interrupted by {end.received.name}{saved}{_go_on(made)}"


def _may_go_on(error: BaseException | None) -> bool:
    """Return whether the same command may come further the next time."""
    while error is not None:
        if isinstance(error, RunError):
            return error.passes
        error = error.__cause__
    return True


def _go_on(made: list[Path]) -> str:
    """Return the command that goes on with the sweep, or the run in the last of these folders."""
    key, folders = ("hydra.sweep.dir", FOLDERS) if FOLDERS else ("hydra.run.dir", made)
    if not folders:
        return ""
    place = f"{key}={_shown(folders[-1])}"
    if "TORCHELASTIC_RUN_ID" in os.environ or "SLURM_STEP_ID" in os.environ:
        return f"; go on with the same command and {place} resume=auto"
    not_own = {key, "resume"} | ({"hydra.job.name", "hydra.output_subdir"} if "LOCAL_RANK" in os.environ else set())
    own = [a for a in redacted(sys.argv[1:]) if a.partition("=")[0] not in not_own]
    module = sys.modules["__main__"].__spec__
    command = ["python", "-m", module.name] if module else [Path(sys.argv[0]).name]
    return f"; go on with: {shlex.join([*command, *own, place, 'resume=auto'])}"


def _shown(folder: Path) -> Path:
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _fault(error: BaseException | None) -> str | None:
    """Return what is wrong with the run or the machine, in an exception or in what caused it."""
    while error is not None:
        if isinstance(error, RunError):
            return " ".join(str(error).split())
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
            return f"{error.filename or 'the output'}: cannot be written ({error.strerror})"
        error = error.__cause__
    return None


def _mistake(error: BaseException | None) -> str | None:
    """Return what a user can mend in an exception or in what caused it."""
    while error is not None:
        if isinstance(error, InputError):
            return " ".join(str(error).split())
        if type(error).__name__ == "MisconfigurationException":  # Lightning's, for example of a missing GPU
            return " ".join(str(error).split())
        if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
            return f"configuration: {error}"
        located = isinstance(error, HydraException) and "Error locating target" in str(error)
        if located or isinstance(error, ConfigCompositionException):
            return " ".join(str(error).split())
        error = error.__cause__
    return None


def _remove_empty(made: list[Path], before: set[Path]) -> None:
    """Remove the output folders of this command, and those above them, that it made and left empty."""
    for leaf in made:
        for folder in _chain(leaf):
            if folder in before or not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()
