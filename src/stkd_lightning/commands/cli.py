"""Run a command: check the configuration, start Hydra, run the job; a mistake is one line and exit code 2."""

import os
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.commands.config.arguments import read_arguments
from stkd_lightning.commands.config.checks import check, output_folders
from stkd_lightning.commands.config.compose import composed, composing, flags_instead, hide_shared_files
from stkd_lightning.commands.config.hints import quoted
from stkd_lightning.commands.config.hydra_callbacks import hide_in_logs, outcome
from stkd_lightning.commands.config.paths import home_expanded, resolve_paths
from stkd_lightning.commands.config.ranges import check_ranges
from stkd_lightning.commands.config.run_folder import check_fresh, claim, is_sweep
from stkd_lightning.commands.config.sweeps import combinations, jobs
from stkd_lightning.commands.endings import failure_of, interruption, is_temporary, mistake_of, resume_hint
from stkd_lightning.commands.help import help_text
from stkd_lightning.utilities import signals
from stkd_lightning.utilities.errors import InputError, RunError, undefined
from stkd_lightning.utilities.orphan import ending_with, watch_starter
from stkd_lightning.utilities.paths import cache_root, conf_dir
from stkd_lightning.utilities.rank import process_rank
from stkd_lightning.utilities.redaction import redacted
from stkd_lightning.utilities.streams import keep_output
from stkd_lightning.utilities.text import printable

EXIT_FAILURE = 1
EXIT_MISTAKE = 2
EXIT_UNDEFINED = 3  # of a job in a process of its own, which its sweep skips
JOB_OF_SWEEP = "STKD_JOB_OF_SWEEP"  # set in the environment of such a process
LARGEST_ANNOUNCED = 200  # jobs of a sweep that are checked before the first
ANNOUNCED: set[str] = set()  # reasons for which jobs of this process's sweep are skipped
FIRST_RANK_REPORTS_S = 20.0


def command(config_name: str, job: str) -> None:
    """Run one of the commands.

    Args:
        config_name: name of the configuration to compose, for example ``train``.
        job: ``module:function`` of the job, imported after the configuration has passed its checks.
    """
    existing: set[Path] = set()
    claimed: list[Path] = []
    folders: list[Path] = []
    can_resume = config_name == "train"
    keep_output()
    hide_in_logs()
    hide_shared_files()
    try:
        signals.listen()
        watch_starter()
        sys.argv[1:] = home_expanded(sys.argv[1:])
        arguments, unknown_flags = read_arguments()
        if unknown_flags:
            with composing(arguments.config_path):
                raise flags_instead(unknown_flags, arguments.config_name or config_name, arguments.config_dir)
        if arguments.help:
            with composing(arguments.config_path):
                print(help_text(arguments.config_name or config_name, arguments))
            return
        if config_name == "train" and len(sys.argv) == 1:
            _show_plan()
            return
        if not (arguments.hydra_help or arguments.info or arguments.shell_completion):
            existing, claimed = _check_all(arguments, config_name)
        # Exceptions reach this handler instead of Hydra's, which prints several lines and exits with 1.
        os.environ["HYDRA_FULL_ERROR"] = "1"
        errors: list[Exception] = []
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(
            _job(f"stkd_lightning.{config_name}", job, errors, folders)
        )()
        if errors:
            raise errors[0]
    except signals.Interrupted as interrupt:
        _exit_interrupted(interrupt, folders, can_resume=can_resume)
    except Exception as error:
        failure = failure_of(error)
        if failure is not None:
            hint = resume_hint(folders) if can_resume and is_temporary(error) else ""
            print(printable(f"error: {redacted(failure)}{hint}"), file=sys.stderr)
            sys.exit(EXIT_FAILURE)
        if (received := signals.requested()) is not None:
            # A library swallowed the exception of the signal in the middle of its code, and failed because of it.
            _exit_interrupted(signals.answer(received, ""), folders, can_resume=can_resume)
        mistake = mistake_of(error)
        if mistake is None:
            rank = f"[rank{process_rank()}]: " if "MASTER_ADDR" in os.environ else ""
            text = textwrap.indent("".join(traceback.format_exception(error)), rank, lambda line: True)
            print(*map(printable, redacted(text).split("\n")), sep="\n", end="", file=sys.stderr)
            sys.exit(EXIT_FAILURE)
        _remove_empty([*folders, *claimed], existing)
        if folders or os.environ.get("LOCAL_RANK", "0") == "0":  # all ranks find the same mistake in a configuration
            if undefined(error) and JOB_OF_SWEEP in os.environ:
                print(printable(f"skipped: {redacted(mistake)}"))
                sys.exit(EXIT_UNDEFINED)
            print(printable(f"error: {redacted(mistake)}"), file=sys.stderr)
        else:
            # A launcher ends all ranks when one exits: wait until the first rank has reported.
            with suppress(signals.Interrupted):
                time.sleep(FIRST_RANK_REPORTS_S)
        sys.exit(EXIT_MISTAKE)


def _exit_interrupted(interrupt: signals.Interrupted, folders: list[Path], *, can_resume: bool) -> NoReturn:
    """Say that a signal ended the command, and exit with its code."""
    if process_rank() == 0:
        text = interruption(interrupt, folders) if can_resume else f"interrupted by {interrupt.received.name}"
        print(printable(text), file=sys.stderr)
    sys.exit(interrupt.exit_code)


def _show_plan() -> None:
    """Print what a training without options would do; only the first rank does."""
    if process_rank() == 0:
        print(import_module("stkd_lightning.commands.plan").plan_text())


def _check_all(arguments: Any, config_name: str) -> tuple[set[Path], list[Path]]:
    """Compose and check every job; return the existing folders on the paths of its output, and a claimed folder."""
    name = arguments.config_name or config_name
    with composing(arguments.config_path):
        swept: dict[str, str] = {}
        # The configuration of the first job shows whether the configuration itself defines a sweep.
        first = composed(name, jobs(arguments.overrides, {}, config_dir=arguments.config_dir)[0], arguments.config_dir)
        multirun = arguments.multirun or first.hydra.mode == RunMode.MULTIRUN
        if multirun:
            swept = {k: str(v) for k, v in (first.hydra.sweeper.get("params") or {}).items()}
        intervals = multirun and not str(first.hydra.sweeper._target_).endswith(".BasicSweeper")
        directory = arguments.config_dir
        for overrides in jobs(arguments.overrides, swept, multirun=multirun, intervals=intervals, config_dir=directory):
            config = composed(name, overrides, arguments.config_dir)
            if multirun:
                config.hydra.mode = RunMode.MULTIRUN
            if not arguments.cfg:
                check(config)
        if arguments.cfg:
            return set(), []
        if config_name == "train" and multirun and not intervals and process_rank() == 0:
            here = str(first.hydra.launcher._target_).endswith(".BasicLauncher")  # this machine prepares the data
            sweep = combinations(arguments.overrides, swept, config_dir=directory)
            _announce_skipped(name, sweep, directory, in_process=here)
        existing = {p for folder in output_folders(config) for p in _with_parents(folder) if p.exists()}
        return existing, _take_folder(config, arguments.overrides)


def _announce_skipped(name: str, sweep: list[list[str]], config_dir: str | None, *, in_process: bool) -> None:
    """Print a line for each job of a sweep that will be skipped, since its method is not defined there.

    The jobs of a very large sweep say it themselves.

    Raises:
        UndefinedError: there is no other job.
    """
    if len(sweep) > LARGEST_ANNOUNCED:
        return
    configs = (composed(name, overrides, config_dir) for overrides in sweep)
    defined = import_module("stkd_lightning.commands.training.defined")
    obstacles = defined.obstacles(configs, prepare=in_process)
    if all(obstacles):
        raise obstacles[0]
    for overrides, obstacle in zip(sweep, obstacles, strict=True):
        if obstacle is not None:
            varied = [text for i, text in enumerate(overrides) if any(other[i] != text for other in sweep)]
            print(printable(f"skipped: {' '.join(varied)}: {redacted(str(obstacle))}"))
            ANNOUNCED.add(str(obstacle))


def _take_folder(config: DictConfig, overrides: list[str]) -> list[Path]:
    """Check the output folder; if its name contains the time, claim it and pass its name on to Hydra."""
    folder, sweep = output_folders(config)[0], is_sweep(config)
    claimed = claim(config, folder) if process_rank() == 0 else None
    if claimed is None:
        check_fresh(config, folder, sweep=sweep)
        raw = config.hydra.sweep.dir if sweep else config.hydra.run.dir
        if not str(raw).startswith("~"):  # Hydra would make a folder of this name
            return []
    last = max((i for i, argument in enumerate(sys.argv) if argument in overrides), default=len(sys.argv) - 1)
    sys.argv.insert(last + 1, f"hydra.{'sweep' if sweep else 'run'}.dir={quoted(str(claimed or folder))}")
    return [claimed] if claimed else []


def _with_parents(folder: Path) -> Iterator[Path]:
    yield folder.absolute()
    yield from folder.absolute().parents


def _job(program: str, job: str, errors: list[Exception], folders: list[Path]) -> Callable[[DictConfig], Any]:
    """Return the function that Hydra calls for a job.

    Args:
        program: module that runs the command.
        job: ``module:function`` of the job.
        errors: receives the exception of a single job, to which Hydra would add a line.
        folders: receives the output folder.
    """

    starter = os.getpid()

    def run(config: DictConfig) -> Any:
        with ending_with(starter):
            return run_job(config)

    def run_job(config: DictConfig) -> Any:
        # A launcher may have started this process.
        keep_output()
        hide_in_logs()
        folder = Path(HydraConfig.get().runtime.output_dir)
        folders.append(folder)
        if _needs_new_process(config):
            return _run_in_new_process(program, folder)
        resolve_paths(config, Path(HydraConfig.get().runtime.cwd))
        # When Lightning is imported, it sets a folder for compiled code that is lost when the machine restarts.
        cache = cache_root(config.cache_dir).absolute()
        if not cache.is_dir() or os.access(cache, os.W_OK):
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "compiled"))
        module, function = job.split(":")
        check_ranges(config)  # makes whole numbers of floats, as in the checked copy
        OmegaConf.set_readonly(config, True)  # the job runs with the values that were checked
        try:
            check_fresh(config, folder)
            return getattr(import_module(module), function)(config)
        except Exception as error:
            if HydraConfig.get().mode != RunMode.MULTIRUN:
                errors.append(error)
            elif (obstacle := undefined(error)) is None or not _can_skip():
                raise
            else:
                if str(obstacle) not in ANNOUNCED:
                    print(printable(f"skipped: job {HydraConfig.get().job.num}: {redacted(str(obstacle))}"))
                _remove_empty([folder], set())

    return run


def _can_skip() -> bool:
    """Return true if the sweeper needs no result of a job."""
    return str(HydraConfig.get().sweeper._target_).endswith(".BasicSweeper")


def _needs_new_process(config: DictConfig) -> bool:
    """Return true for a sweep's job with several ranks: each rank would start the whole sweep again."""
    trainer = config.get("trainer") or {}
    several_ranks = trainer.get("strategy") not in (None, "auto") or trainer.get("devices") not in (None, 1, "1")
    return HydraConfig.get().mode == RunMode.MULTIRUN and several_ranks and "LOCAL_RANK" not in os.environ


def _run_in_new_process(program: str, folder: Path) -> float | None:
    """Run one job of a sweep in a new process, with the overrides of that job; return its result."""
    settings = HydraConfig.get()
    config_dirs = [s.path for s in settings.runtime.config_sources if s.provider == "command-line"]
    flags = ["--config-name", settings.job.config_name or "train"]
    flags += [flag for path in config_dirs for flag in ("--config-dir", path)]
    task: Any = OmegaConf.to_container(settings.overrides.task, resolve=False)
    overrides = [*task, f"hydra.run.dir={quoted(str(folder))}", "hydra.mode=RUN"]
    variables = {JOB_OF_SWEEP: "1"} if _can_skip() else {}
    command = [sys.executable, "-m", program, *flags, *overrides]
    exit_code = signals.run_child(command, cwd=settings.runtime.cwd, variables=variables)
    if exit_code == EXIT_UNDEFINED:  # the process has said why
        return None
    if exit_code == EXIT_MISTAKE:
        raise InputError(f"job {settings.job.num} of the sweep: refused; see the error above")
    if exit_code:
        raise RunError(f"job {settings.job.num} of the sweep: failed with exit code {exit_code}; see {folder}")
    return outcome(folder)


def _remove_empty(folders: list[Path], existing: set[Path]) -> None:
    """Remove empty output folders and their empty parents, unless they existed before the command."""
    for leaf in folders:
        for folder in _with_parents(leaf):
            if folder in existing or not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()
